# Run: `th train.lua -dm DEEPMASK` of facebookresearch/deepmask, on COCO 2017 (the run itself is
# sharpmask_r50_300e_coco2014.py): the refinement on a frozen DeepMask, given as load_from.
# mim train mmdet configs/sharpmask/sharpmask_r50_300e_coco.py --cfg-options load_from=DEEPMASK.pth
_base_ = './deepmask_r50_300e_coco.py'
conv_cfg = dict(type='MirrorPadConv2d', pad_grad=False)
model = dict(
    type='SharpMask',
    refine_head=dict(
        type='TopDownRefineHead',
        conv_cfg=conv_cfg,
        # Parity: Torch7's initial weights, which are PyTorch's; training starts slowly with them
        init_cfg=dict(type='TorchDefault', layer='Conv2d'),
    ),
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='CropObjectPatch', label_size=160, resample='official'),
    dict(type='PackPatchInputs'),
]
val_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='CropObjectPatch', label_size=160, resample='official', flip_prob=0.0),
    dict(type='PackPatchInputs'),
]
train_dataloader = dict(dataset=dict(score_share=0.0, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(score_share=0.0, pipeline=val_pipeline))
# Parity: the released code refines with plain SGD
optim_wrapper = dict(optimizer=dict(momentum=0.0, weight_decay=0.0))
# Parity: 1e-3 throughout. The trainer reads its table of rates only while its rate is 0, that is in
# the first epoch after a start. The table as intended: sharpmask-steps_r50_300e_coco.py
param_scheduler = []
