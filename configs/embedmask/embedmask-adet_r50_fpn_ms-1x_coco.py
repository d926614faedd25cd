# The best published numbers, recommended for new work.
_base_ = ['../_base_/embedmask-adet_r50_fpn.py', 'mmdet::common/ms-poly-90k_coco-instance.py']
optim_wrapper = dict(optimizer=dict(lr=0.01), paramwise_cfg=dict(norm_decay_mult=0.0))
