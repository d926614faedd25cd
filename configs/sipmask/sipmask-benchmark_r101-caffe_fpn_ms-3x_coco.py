# Run: configs/sipmask/sipmask_R_101_FPN_ms_3x.yaml of SipMask-benchmark.
_base_ = './sipmask-benchmark_r50-caffe_fpn_1x_coco.py'
model = dict(
    backbone=dict(depth=101, init_cfg=dict(checkpoint='open-mmlab://detectron/resnet101_caffe'))
)
train_pipeline = [
    dict(type='LoadImageFromFile', backend_args=None, imdecode_backend='pillow'),
    dict(type='LoadMaskAnnotations', with_bbox=True),
    dict(type='InclusiveBoxes'),
    dict(type='RandomResize', scale=[(1333, 640), (1333, 800)], resize_type='TruncatedResize'),
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
        milestones=[240000, 260000],
        gamma=0.1,
    ),
]
