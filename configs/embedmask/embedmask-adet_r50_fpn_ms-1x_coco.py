# Run: configs/EmbedMask/MS_R_50_1x.yaml of yinghdb/AdelaiDet 94a9b7c, 16 images an iteration.
# The best published numbers, recommended for new work.
_base_ = ['../_base_/embedmask-adet_r50_fpn.py', 'mmdet::common/ms-poly-90k_coco-instance.py']
default_hooks = dict(learnable=dict(type='LearnableDataHook'))
train_pipeline = _base_.train_pipeline
train_pipeline[1] = dict(type='LoadMaskAnnotations', with_bbox=True)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(optimizer=dict(lr=0.01), paramwise_cfg=dict(norm_decay_mult=0.0))
