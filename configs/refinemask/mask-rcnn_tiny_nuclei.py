# The stock model that refinemask_tiny_nuclei.py is compared with.
_base_ = [
    '../_base_/mask-rcnn_compact.py',
    '../_base_/nuclei_tiny_instance.py',
    '../_base_/schedule_tiny_300.py',
]
custom_imports = dict(imports=['mmrefine'], allow_failed_imports=False)
model = dict(
    roi_head=dict(bbox_head=dict(num_classes=1), mask_head=dict(num_classes=1)),
    train_cfg=dict(rcnn=dict(sampler=dict(num=64))),
    test_cfg=dict(rcnn=dict(max_per_img=200)),
)
