# EmbedMask on compact_backbone.py for pictures of about 200 pixels: levels from stride 4, short towers.
_base_ = './compact_backbone.py'
custom_imports = dict(imports=['mmrefine'], allow_failed_imports=False)
model = dict(
    type='EmbedMask',
    neck=dict(num_outs=4),
    bbox_head=dict(
        type='EmbedMaskBBoxHead',
        in_channels=64,
        feat_channels=64,
        num_cls_convs=2,
        num_reg_convs=2,
        strides=(4, 8, 16, 32),
        regress_ranges=((-1, 24), (24, 48), (48, 96), (96, 1e8)),
        # The published 2.0 goes with a first range of 64 pixels: three eighths of it, as of the range.
        prior_distance=0.75,
    ),
    mask_head=dict(type='EmbedMaskHead', in_channels=64, feat_channels=64, num_convs=3, stride=4),
    test_cfg=dict(
        nms_pre=300, score_thr=0.05, nms=dict(iou_threshold=0.6), max_per_img=50, mask_thr=0.5
    ),
)
