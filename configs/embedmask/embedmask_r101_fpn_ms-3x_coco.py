# Run: configs/embed_mask/embed_mask_R101_ms_3x.yaml of yinghdb/EmbedMask e9465cb (v3).
_base_ = './embedmask_r101_fpn_1x_coco.py'
train_pipeline = [
    dict(type='LoadImageFromFile', backend_args=None, imdecode_backend='pillow'),
    dict(type='LoadMaskAnnotations', with_bbox=True),
    dict(type='InclusiveBoxes'),
    dict(
        type='RandomChoiceResize', scales=[(1333, 640), (1333, 800)], resize_type='TruncatedResize'
    ),
    dict(type='InclusiveFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
train_cfg = dict(max_iters=270000)
param_scheduler = [
    dict(type='ConstantLR', factor=1.0 / 3, by_epoch=False, begin=0, end=500),
    dict(
        type='MultiStepLR',
        by_epoch=False,
        begin=0,
        end=270000,
        milestones=[210000, 250000],
        gamma=0.1,
    ),
]
