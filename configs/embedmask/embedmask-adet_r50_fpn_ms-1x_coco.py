# EmbedMask in the author's AdelaiDet version: the best published numbers, recommended for new work.
_base_ = 'mmdet::condinst/condinst_r50_fpn_ms-poly-90k_coco_instance.py'
custom_imports = dict(imports=['mmrefine'], allow_failed_imports=False)
model = dict(
    type='EmbedMask',
    data_preprocessor=dict(mean=[103.53, 116.28, 123.675], std=[1.0, 1.0, 1.0], bgr_to_rgb=False),
    backbone=dict(
        norm_cfg=dict(requires_grad=False),
        style='caffe',
        init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://detectron2/resnet50_caffe'),
    ),
    bbox_head=dict(
        _delete_=True,
        type='EmbedMaskBBoxHead',
        num_classes=80,
        proposal=dict(learn_position_scale=False, reduce_channels=128),
        sample_in_mask=False,
        center='mask',
        loss_bbox=dict(type='LtrbIoULoss', offset=1.0),
    ),
    mask_head=dict(
        _delete_=True,
        type='EmbedMaskHead',
        num_classes=80,
        feat_channels=128,
        branch='merged',
        enlarge='aligned',
        loss=dict(
            select='all',
            max_proposals=500,
            targets='sampled',
            average='batch',
            min_probability=1e-6,
            loss_weight=1.0,
        ),
        loss_semantic=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25),
        output=dict(box_halo=None),
    ),
    test_cfg=dict(filter_by_product=True, sqrt_score=True, clip_before_nms=False),
)
optim_wrapper = dict(paramwise_cfg=dict(norm_decay_mult=0.0))
