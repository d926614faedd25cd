# DeepMask as published, head C with a ResNet-50 trunk: 160 px windows, 56 px masks.
# Epochs are 4000 batches of drawn patches. The paper's split is deepmask_r50_300e_coco2014.py.
_base_ = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'
custom_imports = dict(imports=['mmrefine'], allow_failed_imports=False)
# Parity: the released code mirrors the border and drops the gradient of the mirrored ring
conv_cfg = dict(type='MirrorPadConv2d', pad_grad=False)
model = dict(
    _delete_=True,
    type='DeepMask',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    backbone=dict(
        type='StemResNet',
        depth=50,
        conv_cfg=conv_cfg,
        norm_cfg=dict(type='BN', requires_grad=False),
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
    ),
    mask_head=dict(type='DeepMaskHead'),
    test_cfg=dict(mask_format='rle'),
)
dataset_type = 'CocoDataset'
data_root = 'data/coco/'
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='CropObjectPatch', label_size=112),
    dict(type='PackPatchInputs'),
]
val_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='CropObjectPatch', label_size=112, flip_prob=0.0),
    dict(type='PackPatchInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape')),
]
train_dataloader = dict(
    _delete_=True,
    batch_size=32,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='ConsecutiveSampler'),
    dataset=dict(
        type='ObjectPatchDataset',
        length=128000,
        dataset=dict(
            type=dataset_type,
            data_root=data_root,
            ann_file='annotations/instances_train2017.json',
            data_prefix=dict(img='train2017/'),
            filter_cfg=dict(filter_empty_gt=True, min_size=32),
        ),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    _delete_=True,
    batch_size=32,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='ConsecutiveSampler'),
    dataset=dict(
        type='ObjectPatchDataset',
        length=16000,
        dataset=dict(
            type=dataset_type,
            data_root=data_root,
            ann_file='annotations/instances_val2017.json',
            data_prefix=dict(img='val2017/'),
            filter_cfg=dict(filter_empty_gt=True, min_size=32),
        ),
        pipeline=val_pipeline,
    ),
)
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
val_evaluator = dict(_delete_=True, type='PatchMaskMetric')
test_evaluator = dict(
    _delete_=True,
    type='ProposalARMetric',
    ann_file=data_root + 'annotations/instances_val2017.json',
)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.001, momentum=0.9, weight_decay=0.0005))
train_cfg = dict(max_epochs=300, val_interval=2)
param_scheduler = [
    dict(type='MultiStepLR', milestones=[50], gamma=0.5, by_epoch=True),
    dict(type='MultiStepLR', milestones=[120], gamma=0.2, by_epoch=True),
]
default_hooks = dict(checkpoint=dict(save_best='patch/iou@0.7', rule='greater'))
auto_scale_lr = dict(base_batch_size=32)
