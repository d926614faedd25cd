_base_ = [
    '../_base_/sipmask_compact.py',
    '../_base_/nuclei_tiny_instance.py',
    '../_base_/schedule_tiny.py',
]
model = dict(bbox_head=dict(num_classes=1), test_cfg=dict(max_per_img=200))
