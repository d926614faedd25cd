# Run: configs/embed_mask/embed_mask_R50_1x.yaml of yinghdb/EmbedMask 28427b6
# (v2, May 2020, the author's table).
_base_ = './embedmask_r50_fpn_1x_coco.py'
model = dict(
    bbox_head=dict(proposal=dict(embed_dim=8, margin_dims='one')),
    mask_head=dict(
        embed_dim=8,
        loss=dict(box_padding=0.1),
        output=dict(box_halo=1, truncate_boxes=False, log_space=False),
    ),
)
