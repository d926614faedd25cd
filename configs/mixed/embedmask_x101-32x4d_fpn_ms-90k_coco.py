_base_ = '../_base_/condinst_ms-90k_coco.py'
model = dict(
    type='EmbedMask',
    backbone=dict(
        type='ResNeXt', depth=101, groups=32, base_width=4,
        init_cfg=dict(checkpoint='open-mmlab://resnext101_32x4d')),
    bbox_head=dict(_delete_=True, type='EmbedMaskBBoxHead', num_classes=80),
    mask_head=dict(_delete_=True, type='EmbedMaskHead'),
)  # fmt: skip
