# Run: configs/embed_mask/embed_mask_R50_1x.yaml of yinghdb/EmbedMask e9465cb ("v3", IJCAI 2021), 16
# images an iteration; every setting as released weights expect it.
_base_ = '../_base_/benchmark_r50_coco.py'
model = dict(
    type='EmbedMask',
    bbox_head=dict(
        _delete_=True,
        type='EmbedMaskBBoxHead',
        num_classes=80,
        inclusive_boxes=True,
        loss_bbox=dict(type='LtrbIoULoss', offset=1.0),
    ),
    mask_head=dict(
        _delete_=True,
        type='EmbedMaskHead',
        output=dict(box_halo=2, truncate_boxes=True, log_space=True),
    ),
    test_cfg=dict(
        _delete_=True,
        nms_pre=1000,
        score_thr=0.05,
        nms=dict(iou_threshold=0.6),
        max_per_img=100,
        mask_thr=0.53,
    ),
)
