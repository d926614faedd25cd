# Stock YOLACT on the backbone of compact_backbone.py; only its model is used.
_base_ = 'mmdet::yolact/yolact_r50_1xb8-55e_coco.py'
model = dict(
    backbone=dict(depth=18, base_channels=32, init_cfg=None),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=64, num_outs=4),
    bbox_head=dict(
        in_channels=64,
        feat_channels=64,
        # The published anchors belong to pictures of 550 x 550 pixels.
        anchor_generator=dict(base_sizes=[8, 16, 32, 64], strides=[8, 16, 32, 64], centers=None),
    ),
    mask_head=dict(in_channels=64),
    test_cfg=dict(nms_pre=300, max_per_img=50),
)
