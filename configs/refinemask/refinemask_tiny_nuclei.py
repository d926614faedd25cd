_base_ = [
    '../_base_/refinemask_compact.py',
    '../_base_/nuclei_tiny_instance.py',
    '../_base_/schedule_tiny_300.py',
]
model = dict(
    roi_head=dict(bbox_head=dict(num_classes=1)),
    train_cfg=dict(rcnn=dict(sampler=dict(num=64))),
    test_cfg=dict(rcnn=dict(max_per_img=200)),
)
