# Run: configs/embed_mask/embed_mask_R101_1x.yaml of yinghdb/EmbedMask 28427b6
# (v2, May 2020, the author's table).
_base_ = ['./embedmask_r101_fpn_1x_coco.py', '../_base_/embedmask_versions.py']
model = _base_.v2
