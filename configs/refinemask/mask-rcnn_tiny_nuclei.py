# The stock model that refinemask_tiny_nuclei.py is compared with.
_base_ = [
    '../_base_/mask-rcnn_compact.py',
    '../_base_/nuclei_tiny_instance.py',
    '../_base_/schedule_tiny.py',
]
custom_imports = dict(imports=['mmrefine'], allow_failed_imports=False)
model = dict(
    roi_head=dict(bbox_head=dict(num_classes=1), mask_head=dict(num_classes=1)),
    test_cfg=dict(rcnn=dict(max_per_img=200)),
)
