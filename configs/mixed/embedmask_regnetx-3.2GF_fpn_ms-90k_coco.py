_base_ = 'mmdet::condinst/condinst_r50_fpn_ms-poly-90k_coco_instance.py'
custom_imports = dict(imports=['mmrefine'], allow_failed_imports=False)
default_hooks = dict(learnable=dict(type='LearnableDataHook'))
model = dict(
    type='EmbedMask',
    data_preprocessor=dict(
        mean=[103.53, 116.28, 123.675], std=[57.375, 57.12, 58.395], bgr_to_rgb=False),
    backbone=dict(
        _delete_=True, type='RegNet', arch='regnetx_3.2gf', frozen_stages=1, norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://regnetx_3.2gf')),
    neck=dict(in_channels=[96, 192, 432, 1008]),
    bbox_head=dict(_delete_=True, type='EmbedMaskBBoxHead', num_classes=80),
    mask_head=dict(_delete_=True, type='EmbedMaskHead'),
)  # fmt: skip
