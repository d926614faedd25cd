# The proposal branch on another detector: ATSS boxes, EmbedMask's pixels and kernel.
_base_ = '../_base_/condinst_ms-90k_coco.py'
model = dict(
    type='EmbedMask',
    bbox_head=dict(
        _delete_=True,
        type='EmbeddedHead',
        head=dict(
            type='ATSSHead',
            num_classes=80,
            in_channels=256,
            anchor_generator=dict(
                type='AnchorGenerator',
                ratios=[1.0],
                octave_base_scale=8,
                scales_per_octave=1,
                strides=[8, 16, 32, 64, 128],
            ),
            bbox_coder=dict(
                type='DeltaXYWHBBoxCoder',
                target_means=[0.0, 0.0, 0.0, 0.0],
                target_stds=[0.1, 0.1, 0.2, 0.2],
            ),
            loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25),
            loss_bbox=dict(type='GIoULoss', loss_weight=2.0),
            loss_centerness=dict(type='CrossEntropyLoss', use_sigmoid=True),
        ),
    ),
    mask_head=dict(_delete_=True, type='EmbedMaskHead'),
    train_cfg=dict(
        assigner=dict(type='ATSSAssigner', topk=9), allowed_border=-1, pos_weight=-1, debug=False
    ),
)
