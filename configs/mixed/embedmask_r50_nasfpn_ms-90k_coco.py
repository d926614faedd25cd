_base_ = 'mmdet::condinst/condinst_r50_fpn_ms-poly-90k_coco_instance.py'
custom_imports = dict(imports=['mmrefine'], allow_failed_imports=False)
default_hooks = dict(learnable=dict(type='LearnableDataHook'))
model = dict(
    type='EmbedMask',
    data_preprocessor=dict(pad_size_divisor=128),
    neck=dict(
        _delete_=True, type='NASFPN', in_channels=[256, 512, 1024, 2048], out_channels=256,
        num_outs=5, stack_times=7, start_level=1, norm_cfg=dict(type='BN', requires_grad=True)),
    bbox_head=dict(_delete_=True, type='EmbedMaskBBoxHead', num_classes=80),
    mask_head=dict(_delete_=True, type='EmbedMaskHead'),
)  # fmt: skip
