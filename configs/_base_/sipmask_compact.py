# SipMask on compact_backbone.py for pictures of about 200 pixels: four levels, short towers.
_base_ = './compact_backbone.py'
custom_imports = dict(imports=['mmrefine'], allow_failed_imports=False)
model = dict(
    type='SipMask',
    neck=dict(start_level=1, add_extra_convs='on_output', num_outs=4, relu_before_extra_convs=True),
    bbox_head=dict(
        type='SipMaskBBoxHead',
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        strides=(8, 16, 32, 64),
        regress_ranges=((-1, 32), (32, 64), (64, 128), (128, 1e8)),
    ),
    mask_head=dict(type='SipMaskHead', in_channels=64, mid_channels=128),
    test_cfg=dict(
        nms_pre=300,
        score_thr=0.05,
        nms=dict(type='greedy', iou_threshold=0.5),
        max_per_img=50,
        mask_thr=0.4,
    ),
)
