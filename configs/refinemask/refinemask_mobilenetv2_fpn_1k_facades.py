_base_ = [
    '../_base_/refinemask_compact.py',
    '../_base_/mobilenetv2.py',
    '../_base_/facades_instance.py',
    '../_base_/schedule_1k.py',
]
model = dict(
    backbone=_base_.mobilenetv2,
    neck=dict(in_channels=_base_.mobilenetv2_channels),
    roi_head=dict(bbox_head=dict(num_classes=10)),
    train_cfg=dict(rcnn=dict(sampler=dict(num=64))),
    test_cfg=dict(rcnn=dict(max_per_img=200)),
)
