_base_ = '../_base_/condinst_ms-90k_coco.py'
model = dict(
    type='SipMask',
    neck=dict(type='PAFPN'),
    bbox_head=dict(_delete_=True, type='SipMaskBBoxHead', num_classes=80),
    mask_head=dict(_delete_=True, type='SipMaskHead'),
)
