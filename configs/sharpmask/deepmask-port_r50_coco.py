# Run: `tools/train.py --dataset coco --freeze_bn` of foolwood/deepmask-pytorch, and its evaluation
# (tools/evalPerImage.py, 8 scales, 1000 proposals); for its DeepMask.pth.tar.
_base_ = './deepmask_r50_300e_coco.py'
# Parity: reflection without the edge for 1-px pads, symmetric for the stem, gradients kept
conv_cfg = dict(type='MirrorPadConv2d', pad_mode='reflect', wide_pad_mode='symmetric')
model = dict(
    backbone=dict(conv_cfg=dict(_delete_=True, **conv_cfg), norm_cfg=dict(requires_grad=True)),
    mask_head=dict(score_floor=1e-6),
    train_cfg=dict(skip_idle=False),  # one optimiser steps all parameters
    test_cfg=dict(
        log2_scales=(-2.5, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0),
        size_rounding='floor',
        paste='port',
    ),
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='CropObjectPatch', label_size=112, resample='corners'),
    dict(type='PackPatchInputs'),
]
val_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='CropObjectPatch', label_size=112, resample='corners', flip_prob=0.0),
    dict(type='PackPatchInputs'),
]
# Parity: objects of the canonical scale never reject a negative
train_dataloader = dict(dataset=dict(negative_rule='port', pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(negative_rule='port', pipeline=val_pipeline))
# 1e-3, from epoch 51 on 3e-4, from epoch 121 on 9e-5
param_scheduler = [dict(type='MultiStepLR', milestones=[50, 120], gamma=0.3, by_epoch=True)]
