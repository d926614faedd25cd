# For DeepMask.pth.tar of the PyTorch port: its padding, score threshold, scales and pasting.
_base_ = './deepmask_r50_300e_coco.py'
# Parity: reflection without the edge for 1-px pads, symmetric for the stem, gradients kept
conv_cfg = dict(type='MirrorPadConv2d', pad_mode='reflect', wide_pad_mode='symmetric')
model = dict(
    backbone=dict(conv_cfg=dict(_delete_=True, **conv_cfg), norm_cfg=dict(requires_grad=True)),
    mask_head=dict(score_floor=1e-6),
    test_cfg=dict(
        log2_scales=(-2.5, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0),
        max_per_img=1000,
        size_rounding='floor',
        paste='port',
    ),
)
