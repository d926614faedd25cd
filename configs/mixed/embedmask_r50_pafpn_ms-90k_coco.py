_base_ = '../_base_/condinst_ms-90k_coco.py'
model = dict(
    type='EmbedMask',
    neck=dict(type='PAFPN'),
    bbox_head=dict(_delete_=True, type='EmbedMaskBBoxHead', num_classes=80),
    mask_head=dict(_delete_=True, type='EmbedMaskHead'),
)
