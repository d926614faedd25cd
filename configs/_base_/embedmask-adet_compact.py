# embedmask_compact.py with the proposals, the branch and the losses of the AdelaiDet version, but
# without its box_halo=None, clip_before_nms=False and offset of the box loss.
_base_ = './embedmask_compact.py'
model = dict(
    bbox_head=dict(
        proposal=dict(learn_position_scale=False, reduce_channels=32),
        sample_in_mask=False,
        center='mask',
    ),
    mask_head=dict(
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
    ),
    test_cfg=dict(filter_by_product=True, sqrt_score=True),
)
