# Run: configs/sipmask/sipmask_r50_caffe_fpn_gn_1x.py of SipMask-mmdetection in JialeCao001/SipMask,
# on 4 GPUs of 4 images; every setting as the released weights expect it.
_base_ = 'mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py'
custom_imports = dict(imports=['mmrefine'], allow_failed_imports=False)
default_hooks = dict(learnable=dict(type='LearnableDataHook'))
model = dict(
    type='SipMask',
    data_preprocessor=dict(pad_mask=True),
    # Parity: boxes may invert, areas and overlaps count pixels, normalisers are per GPU
    bbox_head=dict(
        _delete_=True,
        type='SipMaskBBoxHead',
        num_classes=80,
        relu_boxes=False,
        area_offset=1.0,
        count_images=True,
        sync_normalizers=False,
        loss_bbox=dict(type='LtrbIoULoss', kind='iou', offset=1.0),
    ),
    mask_head=dict(
        type='SipMaskHead',
        center_pixels=False,
        sampling=dict(keep_inverted=True, iou_offset=1.0),
    ),
    test_cfg=dict(
        _delete_=True,
        nms_pre=1000,
        score_thr=0.05,
        nms=dict(type='greedy', iou_threshold=0.5, offset=1),
        max_per_img=100,
        clip_offset=1,
        nms_in_original=True,
        scale='floor',
        scale_limits=(1333, 800),
        mask_thr=0.4,
        box_export_offset=1,
    ),
)
train_pipeline = [
    dict(type='LoadImageFromFile', backend_args=None),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='InclusiveBoxes'),
    dict(type='Resize', scale=(1333, 800), keep_ratio=True),
    dict(type='InclusiveFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile', backend_args=None),
    dict(type='Resize', scale=(1333, 800), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
train_dataloader = dict(
    batch_size=4,
    dataset=dict(pipeline=train_pipeline, filter_cfg=dict(filter_empty_gt=True, min_size=32)),
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(metric=['bbox', 'segm'])
test_evaluator = val_evaluator
# mmdetection 1 spared the norms it knew by name from the bias rule, not the one of the alignment
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={
            '.gn.bias': dict(lr_mult=1.0, decay_mult=1.0),
            'feat_align.norm.bias': dict(lr_mult=2.0, decay_mult=0.0),
        },
    ),
    clip_grad=None,
)
