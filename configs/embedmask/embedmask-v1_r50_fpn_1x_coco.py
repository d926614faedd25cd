# Run: configs/embed_mask/embed_mask_R50_1x.yaml of yinghdb/EmbedMask 3b4d9fb
# (v1, arXiv 1912.01954).
_base_ = './embedmask_r50_fpn_1x_coco.py'
model = dict(
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
