# A thousand batches of four crops from ImageNet weights: half an hour of one idle CPU core for a small RefineMask.
_base_ = './schedule_tiny.py'
train_cfg = dict(val_interval=1000)
optim_wrapper = dict(
    # the backbone knows photos already; norms and biases are not pulled to zero
    paramwise_cfg=dict(
        norm_decay_mult=0.0, bias_decay_mult=0.0, custom_keys=dict(backbone=dict(lr_mult=0.2))
    ),
)
default_hooks = dict(checkpoint=dict(interval=100))
