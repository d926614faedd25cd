# What versions 1 and 2 of EmbedMask set otherwise than version 3, of the IJCAI paper.
v1 = dict(
    bbox_head=dict(
        proposal=dict(embed_dim=32, coord_embed=False, margin_source='box', margin_dims='one')
    ),
    mask_head=dict(
        embed_dim=32,
        coord_embed=False,
        loss=dict(
            select='mean',
            average='objects',
            box_padding=0.1,
            min_probability=0.0,
            smooth_weight=0.1,
        ),
        output=dict(box_halo=1, truncate_boxes=False, log_space=False),
    ),
    test_cfg=dict(mask_thr=0.5),
)
v2 = dict(
    bbox_head=dict(proposal=dict(embed_dim=8, margin_dims='one')),
    mask_head=dict(
        embed_dim=8,
        loss=dict(box_padding=0.1),
        output=dict(box_halo=1, truncate_boxes=False, log_space=False),
    ),
)
