_base_ = [
    '../_base_/sipmask_compact.py',
    '../_base_/shapes_instance.py',
    '../_base_/schedule_tiny.py',
]
model = dict(bbox_head=dict(num_classes=8))
# the mask branch starts from scratch too and gains from a longer schedule
train_cfg = dict(max_iters=1800, val_interval=600)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.02, by_epoch=False, begin=50, end=1800),
]
