_base_ = 'mmdet::condinst/condinst_r50_fpn_ms-poly-90k_coco_instance.py'
custom_imports = dict(imports=['mmrefine'], allow_failed_imports=False)
default_hooks = dict(learnable=dict(type='LearnableDataHook'))
model = dict(
    type='SipMask',
    backbone=dict(
        type='ResNeXt', depth=101, groups=32, base_width=4,
        init_cfg=dict(checkpoint='open-mmlab://resnext101_32x4d')),
    bbox_head=dict(_delete_=True, type='SipMaskBBoxHead', num_classes=80),
    mask_head=dict(_delete_=True, type='SipMaskHead'),
)  # fmt: skip
