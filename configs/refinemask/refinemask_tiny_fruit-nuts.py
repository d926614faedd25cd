_base_ = [
    '../_base_/refinemask_compact.py',
    '../_base_/fruit_nuts_instance.py',
    '../_base_/schedule_tiny_300.py',
]
model = dict(roi_head=dict(bbox_head=dict(num_classes=3)))
