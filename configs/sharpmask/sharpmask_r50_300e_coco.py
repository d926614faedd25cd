# Second stage: the refinement on a frozen, trained DeepMask. Give its checkpoint as load_from:
# mim train mmdet configs/sharpmask/sharpmask_r50_300e_coco.py --cfg-options load_from=DEEPMASK.pth
_base_ = './deepmask_r50_300e_coco.py'
conv_cfg = dict(type='MirrorPadConv2d', pad_grad=False)
model = dict(type='SharpMask', refine_head=dict(type='TopDownRefineHead', conv_cfg=conv_cfg))
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='CropObjectPatch', label_size=160),
    dict(type='PackPatchInputs'),
]
val_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='CropObjectPatch', label_size=160, flip_prob=0.0),
    dict(type='PackPatchInputs'),
]
train_dataloader = dict(dataset=dict(score_share=0.0, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(score_share=0.0, pipeline=val_pipeline))
# Parity: the released code refines with plain SGD
optim_wrapper = dict(optimizer=dict(momentum=0.0, weight_decay=0.0))
param_scheduler = [
    dict(type='MultiStepLR', milestones=[50], gamma=0.5, by_epoch=True),
    dict(type='MultiStepLR', milestones=[80], gamma=0.2, by_epoch=True),
]
