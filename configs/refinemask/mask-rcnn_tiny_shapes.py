# The stock model that refinemask_tiny_shapes.py is compared with.
_base_ = [
    '../_base_/mask-rcnn_compact.py',
    '../_base_/shapes_instance.py',
    '../_base_/schedule_tiny.py',
]
custom_imports = dict(imports=['mmrefine'], allow_failed_imports=False)
model = dict(roi_head=dict(bbox_head=dict(num_classes=8), mask_head=dict(num_classes=8)))
