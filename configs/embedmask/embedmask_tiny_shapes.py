_base_ = [
    '../_base_/embedmask_compact.py',
    '../_base_/shapes_instance.py',
    '../_base_/schedule_tiny.py',
]
model = dict(bbox_head=dict(num_classes=8))
train_cfg = dict(max_iters=1600, val_interval=400)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.02, by_epoch=False, begin=50, end=1600),
]
