# From scratch in minutes on two CPU cores.
_base_ = 'mmdet::_base_/default_runtime.py'
train_cfg = dict(type='IterBasedTrainLoop', max_iters=1000, val_interval=500)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=0.001, weight_decay=0.05),
    clip_grad=dict(max_norm=10),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.02, by_epoch=False, begin=50, end=1000),
]
runner_type = 'mmdet.QuietRunner'
default_hooks = dict(
    logger=dict(interval=20),
    checkpoint=dict(interval=200, by_epoch=False, max_keep_ckpts=2),
    summary=dict(type='TrainingSummaryHook'),
    learnable=dict(type='LearnableDataHook'),
)
log_processor = dict(window_size=20, by_epoch=False)
env_cfg = dict(dist_cfg=dict(backend='gloo'))
randomness = dict(seed=0)
# An interrupted and resumed run repeats the unbroken one.
custom_hooks = [dict(type='ResumableRandomnessHook')]
