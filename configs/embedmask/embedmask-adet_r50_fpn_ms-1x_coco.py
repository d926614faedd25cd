# Run: configs/EmbedMask/MS_R_50_1x.yaml of yinghdb/AdelaiDet 94a9b7c, 16 images an iteration.
# The best published numbers, recommended for new work.
_base_ = ['../_base_/embedmask-adet_r50_fpn.py', 'mmdet::common/ms-poly-90k_coco-instance.py']
default_hooks = dict(learnable=dict(type='LearnableDataHook'))
optim_wrapper = dict(optimizer=dict(lr=0.01), paramwise_cfg=dict(norm_decay_mult=0.0))
