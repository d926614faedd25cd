_base_ = [
    '../_base_/sipmask_compact.py',
    '../_base_/shapes_instance.py',
    '../_base_/schedule_tiny.py',
]
model = dict(bbox_head=dict(num_classes=8))
