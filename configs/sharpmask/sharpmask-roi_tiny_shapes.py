_base_ = [
    '../_base_/sharpmask-roi_compact.py',
    '../_base_/shapes_instance.py',
    '../_base_/schedule_tiny.py',
]
model = dict(roi_head=dict(bbox_head=dict(num_classes=8), mask_head=dict(num_classes=8)))
