_base_ = [
    '../_base_/sipmask_r50_fpn.py',
    'mmdet::_base_/datasets/lvis_v1_instance.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    'mmdet::_base_/default_runtime.py',
]
default_hooks = dict(learnable=dict(type='LearnableDataHook'))
# 300 detections an image: masks leave the model run-length encoded
model = dict(
    bbox_head=dict(num_classes=1203),
    test_cfg=dict(score_thr=1e-4, max_per_img=300, mask_format='rle', max_candidates=10000),
)
optim_wrapper = dict(optimizer=dict(lr=0.01), clip_grad=dict(max_norm=35, norm_type=2))
