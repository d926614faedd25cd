# schedule_tiny.py for designs that learn late.
_base_ = './schedule_tiny.py'
train_cfg = dict(max_iters=1600, val_interval=400)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.02, by_epoch=False, begin=50, end=1600),
]
