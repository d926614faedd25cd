# Run: configs/sipmask/sipmask_R_50_FPN_1x.yaml of SipMask-benchmark in JialeCao001/SipMask, 16 images
# an iteration; every setting as its weights expect it.
_base_ = '../_base_/benchmark_r50_coco.py'
model = dict(
    type='SipMask',
    # Parity: biases everywhere, areas and overlaps count pixels
    bbox_head=dict(
        _delete_=True,
        type='SipMaskBBoxHead',
        num_classes=80,
        conv_bias=True,
        align_bias=True,
        area_offset=1.0,
        loss_bbox=dict(type='LtrbIoULoss', kind='giou', offset=1.0),
        init_cfg=dict(
            type='Normal',
            layer='Conv2d',
            std=0.01,
            override=[
                dict(type='Normal', name='conv_cls', std=0.01, bias_prob=0.01),
                dict(type='TorchDefault', name='conv_coeff'),
            ],
        ),
    ),
    mask_head=dict(
        _delete_=True,
        type='SipMaskHead',
        center_pixels=False,
        image_masks=True,
        sampling=dict(keep_inverted=True, iou_offset=1.0, weight_eps=0.0, nms_threshold=0.9),
        halve_above=1.0,
        init_cfg=dict(type='TorchDefault', layer='Conv2d'),
    ),
    test_cfg=dict(
        _delete_=True,
        nms_pre=1000,
        score_thr=0.05,
        candidates='pairs',
        score_sqrt=True,
        nms=dict(type='greedy', iou_threshold=0.6, offset=1),
        max_per_img=100,
        clip_offset=1,
        scale='floor_min',
        mask_thr=0.4,
        box_export_offset=1,
    ),
)
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={
            'feat_align.norm.bias': dict(lr_mult=2.0, decay_mult=0.0),
            'feat_align.adaption_bias': dict(lr_mult=2.0, decay_mult=0.0),
        },
    ),
)
