# refinemask_compact.py from ImageNet weights, on photos of up to 200 objects that count.
_base_ = ['./refinemask_compact.py', './mobilenetv2.py', './schedule_1k.py']
model = dict(
    backbone=_base_.mobilenetv2,
    neck=dict(in_channels=_base_.mobilenetv2_channels),
    train_cfg=dict(rcnn=dict(sampler=dict(num=64))),
    test_cfg=dict(rcnn=dict(max_per_img=200)),
)
