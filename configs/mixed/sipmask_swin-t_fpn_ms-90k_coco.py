_base_ = 'mmdet::condinst/condinst_r50_fpn_ms-poly-90k_coco_instance.py'
custom_imports = dict(imports=['mmrefine'], allow_failed_imports=False)
default_hooks = dict(learnable=dict(type='LearnableDataHook'))
model = dict(
    type='SipMask',
    backbone=dict(
        _delete_=True, type='SwinTransformer', out_indices=(1, 2, 3), convert_weights=True,
        init_cfg=dict(type='Pretrained', checkpoint='https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_tiny_patch4_window7_224.pth')),
    neck=dict(in_channels=[192, 384, 768], start_level=0),
    bbox_head=dict(_delete_=True, type='SipMaskBBoxHead', num_classes=80),
    mask_head=dict(_delete_=True, type='SipMaskHead'),
)  # fmt: skip
optim_wrapper = dict(optimizer=dict(_delete_=True, type='AdamW', lr=0.0001, weight_decay=0.05))
