# Run: lvis/r50-refinemask-1x.py of zhanggang001/RefineMask, 16 images an iteration.
_base_ = [
    '../_base_/refinemask_r50_fpn.py',
    'mmdet::_base_/datasets/lvis_v1_instance.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    'mmdet::_base_/default_runtime.py',
]
default_hooks = dict(learnable=dict(type='LearnableDataHook'))
model = dict(
    roi_head=dict(
        bbox_head=dict(num_classes=1203),
        mask_head=dict(stage_num_classes=[None, None, None, 1]),
    ),
    test_cfg=dict(rcnn=dict(score_thr=1e-4, max_per_img=300)),
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadMaskAnnotations', with_bbox=True),
    dict(
        type='RandomChoiceResize',
        scales=[(1333, 640), (1333, 672), (1333, 704), (1333, 736), (1333, 768), (1333, 800)],
        keep_ratio=True,
    ),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))
optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))
