# Run: configs/sipmask/sipmask_R_50_FPN_1x.yaml of SipMask-benchmark in JialeCao001/SipMask, 16 images
# an iteration; every setting as its weights expect it.
_base_ = 'mmdet::condinst/condinst_r50_fpn_ms-poly-90k_coco_instance.py'
custom_imports = dict(imports=['mmrefine'], allow_failed_imports=False)
default_hooks = dict(learnable=dict(type='LearnableDataHook'))
model = dict(
    type='SipMask',
    data_preprocessor=dict(
        mean=[102.9801, 115.9465, 122.7717], std=[1.0, 1.0, 1.0], bgr_to_rgb=False
    ),
    backbone=dict(
        norm_cfg=dict(requires_grad=False),
        style='caffe',
        init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://detectron/resnet50_caffe'),
    ),
    neck=dict(init_cfg=dict(type='Caffe2Xavier', layer='Conv2d')),
    # Parity: biases everywhere, areas and overlaps count pixels
    bbox_head=dict(
        _delete_=True,
        type='SipMaskBBoxHead',
        num_classes=80,
        conv_bias=True,
        align_bias=True,
        area_offset=1.0,
        loss_bbox=dict(type='LtrbIoULoss', kind='giou', offset=1.0),
        init_cfg=dict(
            type='Normal',
            layer='Conv2d',
            std=0.01,
            override=[
                dict(type='Normal', name='conv_cls', std=0.01, bias_prob=0.01),
                dict(type='TorchDefault', name='conv_coeff'),
            ],
        ),
    ),
    mask_head=dict(
        _delete_=True,
        type='SipMaskHead',
        center_pixels=False,
        image_masks=True,
        sampling=dict(keep_inverted=True, iou_offset=1.0, weight_eps=0.0, nms_threshold=0.9),
        halve_above=1.0,
        init_cfg=dict(type='TorchDefault', layer='Conv2d'),
    ),
    test_cfg=dict(
        _delete_=True,
        nms_pre=1000,
        score_thr=0.05,
        candidates='pairs',
        score_sqrt=True,
        nms=dict(type='greedy', iou_threshold=0.6, offset=1),
        max_per_img=100,
        clip_offset=1,
        scale='floor_min',
        mask_thr=0.4,
        box_export_offset=1,
    ),
)
train_pipeline = [
    dict(type='LoadImageFromFile', backend_args=None, imdecode_backend='pillow'),
    dict(type='LoadMaskAnnotations', with_bbox=True),
    dict(type='InclusiveBoxes'),
    dict(type='TruncatedResize', scale=(1333, 800)),
    dict(type='InclusiveFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile', backend_args=None, imdecode_backend='pillow'),
    dict(type='TruncatedResize', scale=(1333, 800)),
    dict(type='LoadMaskAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
train_dataloader = dict(
    dataset=dict(pipeline=train_pipeline, filter_cfg=dict(filter_empty_gt=True, min_size=1))
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
# whatever is named bias, in norms too, learns twice as fast and does not decay
optim_wrapper = dict(
    paramwise_cfg=dict(
        bias_lr_mult=2.0,
        bias_decay_mult=0.0,
        custom_keys={
            '.gn.bias': dict(lr_mult=2.0, decay_mult=0.0),
            'feat_align.norm.bias': dict(lr_mult=2.0, decay_mult=0.0),
            'feat_align.adaption_bias': dict(lr_mult=2.0, decay_mult=0.0),
        },
    ),
)
param_scheduler = [
    dict(type='ConstantLR', factor=1.0 / 3, by_epoch=False, begin=0, end=500),
    dict(
        type='MultiStepLR', by_epoch=False, begin=0, end=90000, milestones=[60000, 80000], gamma=0.1
    ),
]
