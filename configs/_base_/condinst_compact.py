# Stock CondInst on the backbone and the levels of sipmask_compact.py; only its model is used.
_base_ = 'mmdet::condinst/condinst_r50_fpn_ms-poly-90k_coco_instance.py'
model = dict(
    backbone=dict(depth=18, base_channels=32, frozen_stages=-1, norm_eval=False, init_cfg=None),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=64, num_outs=4),
    bbox_head=dict(
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        strides=[8, 16, 32, 64],
        regress_ranges=((-1, 32), (32, 64), (64, 128), (128, 1e8)),
    ),
    mask_head=dict(mask_feature_head=dict(in_channels=64, feat_channels=64, num_stacked_convs=3)),
    test_cfg=dict(nms_pre=300, max_per_img=50),
)
