# Stock YOLACT with the backbone and the levels of sipmask_compact.py. It crops masks as if no picture were padded,
# so give it pictures of one size.
_base_ = './compact_backbone.py'
model = dict(
    type='YOLACT',
    data_preprocessor=dict(
        mean=[123.68, 116.78, 103.94], std=[58.40, 57.12, 57.38], pad_size_divisor=1
    ),
    neck=dict(
        start_level=1, add_extra_convs='on_input', num_outs=4, upsample_cfg=dict(mode='bilinear')
    ),
    bbox_head=dict(
        type='YOLACTHead',
        num_classes=80,
        in_channels=64,
        feat_channels=64,
        # The published anchors belong to pictures of 550 x 550 pixels.
        anchor_generator=dict(
            type='AnchorGenerator',
            octave_base_scale=3,
            scales_per_octave=1,
            base_sizes=[8, 16, 32, 64],
            ratios=[0.5, 1.0, 2.0],
            strides=[8, 16, 32, 64],
        ),
        bbox_coder=dict(
            type='DeltaXYWHBBoxCoder',
            target_means=[0.0, 0.0, 0.0, 0.0],
            target_stds=[0.1, 0.1, 0.2, 0.2],
        ),
    ),
    mask_head=dict(type='YOLACTProtonet', num_classes=80, in_channels=64, loss_mask_weight=6.125),
    train_cfg=dict(
        assigner=dict(
            type='MaxIoUAssigner',
            pos_iou_thr=0.5,
            neg_iou_thr=0.4,
            min_pos_iou=0.0,
            gt_max_assign_all=False,
        ),
        sampler=dict(type='PseudoSampler'),
        allowed_border=-1,
        pos_weight=-1,
        neg_pos_ratio=3,
    ),
    test_cfg=dict(
        nms_pre=300,
        score_thr=0.05,
        mask_thr=0.5,
        iou_thr=0.5,
        top_k=200,
        max_per_img=50,
        mask_thr_binary=0.5,
    ),
)
