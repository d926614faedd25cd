# Run: configs/embed_mask/embed_mask_R101_ms_3x.yaml of yinghdb/EmbedMask 28427b6
# (v2, May 2020, the author's table).
_base_ = './embedmask_r101_fpn_ms-3x_coco.py'
model = dict(
    bbox_head=dict(proposal=dict(embed_dim=8, margin_dims='one')),
    mask_head=dict(
        embed_dim=8,
        loss=dict(box_padding=0.1),
        output=dict(box_halo=1, truncate_boxes=False, log_space=False),
    ),
)
