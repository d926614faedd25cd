_base_ = [
    '../_base_/embedmask-adet_r50_fpn.py',
    'mmdet::_base_/datasets/lvis_v1_instance.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    'mmdet::_base_/default_runtime.py',
]
default_hooks = dict(learnable=dict(type='LearnableDataHook'))
model = dict(
    bbox_head=dict(num_classes=1203),
    mask_head=dict(num_classes=1203),
    test_cfg=dict(score_thr=1e-4, max_per_img=300),
)
optim_wrapper = dict(optimizer=dict(lr=0.01), paramwise_cfg=dict(norm_decay_mult=0.0))
