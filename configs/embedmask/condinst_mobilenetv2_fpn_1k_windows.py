# The stock model that embedmask_mobilenetv2_fpn_1k_windows.py is compared with.
_base_ = [
    '../_base_/condinst_compact.py',
    '../_base_/mobilenetv2.py',
    '../_base_/windows_instance.py',
    '../_base_/schedule_1k.py',
]
custom_imports = dict(imports=['mmrefine'], allow_failed_imports=False)
model = dict(
    backbone=_base_.mobilenetv2,
    neck=dict(in_channels=_base_.mobilenetv2_channels),
    bbox_head=dict(num_classes=1),
    test_cfg=dict(max_per_img=200),
)
