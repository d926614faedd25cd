# Photos of cell nuclei in minutes on a CPU; nuclei are 10 to 60 pixels long.
_base_ = ['../_base_/nuclei_tiny_instance.py', '../_base_/schedule_tiny.py']
custom_imports = dict(imports=['mmrefine'], allow_failed_imports=False)
conv_cfg = dict(type='MirrorPadConv2d')
model = dict(
    type='DeepMask',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    backbone=dict(
        type='StemResNet', depth=18, base_channels=24, conv_cfg=conv_cfg, norm_eval=False
    ),
    mask_head=dict(
        type='DeepMaskHead',
        in_channels=96,
        reduce_channels=64,
        code_channels=256,
        grid_size=5,
        mask_size=28,
        score_channels=256,
        dropout=0.2,
        score_weight=0.5,
    ),
    test_cfg=dict(log2_scales=(-0.5, 0.0, 0.5, 1.0, 1.5), max_per_img=1000, mask_format='rle'),
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='CropObjectPatch', size=80, label_size=56),
    dict(type='PackPatchInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape')),
]
train_dataloader = dict(
    _delete_=True,
    batch_size=32,
    num_workers=0,
    sampler=dict(type='ConsecutiveSampler'),
    dataset=dict(
        type='ObjectPatchDataset',
        length=128000,
        patch=80,
        dataset=dict(
            type='CheckedCocoDataset',
            data_root=_base_.data_root,
            metainfo=_base_.metainfo,
            ann_file='annotations/instances_train_tiny.json',
            data_prefix=dict(img='images/'),
            filter_cfg=dict(filter_empty_gt=True, min_size=32),
        ),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(batch_size=1, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(
    _delete_=True,
    type='ProposalARMetric',
    ann_file=_base_.data_root + 'annotations/instances_val_tiny.json',
)
test_evaluator = val_evaluator
train_cfg = dict(max_iters=1200, val_interval=1200)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.02, by_epoch=False, begin=50, end=1200),
]
