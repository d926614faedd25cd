_base_ = [
    '../_base_/embedmask-adet_compact.py',
    '../_base_/shapes_instance.py',
    '../_base_/schedule_tiny_1600.py',
]
model = dict(bbox_head=dict(num_classes=8), mask_head=dict(num_classes=8))
