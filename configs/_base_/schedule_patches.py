# schedule_tiny.py for batches of 32 patches; AdamW at 0.001 leaves SharpMask's recall far behind.
_base_ = './schedule_tiny.py'
train_cfg = dict(max_iters=1200, val_interval=1200)
optim_wrapper = dict(optimizer=dict(lr=0.002))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.02, by_epoch=False, begin=50, end=1200),
]
