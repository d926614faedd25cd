_base_ = [
    '../_base_/sharpmask-roi_compact.py',
    '../_base_/nuclei_tiny_instance.py',
    '../_base_/schedule_tiny.py',
]
model = dict(
    roi_head=dict(bbox_head=dict(num_classes=1), mask_head=dict(num_classes=1)),
    test_cfg=dict(rcnn=dict(max_per_img=200)),
)
