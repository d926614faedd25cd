_base_ = [
    '../_base_/embedmask-adet_compact.py',
    '../_base_/mobilenetv2.py',
    '../_base_/windows_instance.py',
    '../_base_/schedule_1k.py',
]
model = dict(
    backbone=_base_.mobilenetv2,
    neck=dict(in_channels=_base_.mobilenetv2_channels),
    bbox_head=dict(num_classes=1),
    mask_head=dict(num_classes=1),
    test_cfg=dict(max_per_img=200),
)
