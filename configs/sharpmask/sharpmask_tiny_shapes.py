# Second stage on the checkpoint of deepmask_tiny_shapes.py, given as load_from.
_base_ = './deepmask_tiny_shapes.py'
conv_cfg = dict(type='MirrorPadConv2d')
model = dict(
    type='SharpMask',
    refine_head=dict(
        type='TopDownRefineHead',
        feature_channels=(96, 48, 24, 24),
        code_channels=256,
        grid_size=5,
        hidden_channels=(32, 32, 32, 32),
        conv_cfg=conv_cfg,
    ),
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='CropObjectPatch', size=80, label_size=80),
    dict(type='PackPatchInputs'),
]
train_dataloader = dict(dataset=dict(score_share=0.0, pipeline=train_pipeline))
