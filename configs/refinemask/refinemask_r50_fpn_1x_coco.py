# Run: configs/refinemask/coco/r50-refinemask-1x.py of zhanggang001/RefineMask 633ed2b, 16 images an
# iteration.
_base_ = [
    '../_base_/refinemask_r50_fpn.py',
    'mmdet::_base_/datasets/coco_instance.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    'mmdet::_base_/default_runtime.py',
]
default_hooks = dict(learnable=dict(type='LearnableDataHook'))
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadMaskAnnotations', with_bbox=True),
    dict(type='Resize', scale=(1333, 800), keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
# lr is for 16 images an iteration: --auto-scale-lr adapts it, higher rates diverge
optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))
