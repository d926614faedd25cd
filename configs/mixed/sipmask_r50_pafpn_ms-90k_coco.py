_base_ = 'mmdet::condinst/condinst_r50_fpn_ms-poly-90k_coco_instance.py'
custom_imports = dict(imports=['mmrefine'], allow_failed_imports=False)
default_hooks = dict(learnable=dict(type='LearnableDataHook'))
model = dict(
    type='SipMask',
    neck=dict(type='PAFPN'),
    bbox_head=dict(_delete_=True, type='SipMaskBBoxHead', num_classes=80),
    mask_head=dict(_delete_=True, type='SipMaskHead'),
)
