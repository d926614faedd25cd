# Run: configs/embed_mask/embed_mask_R101_1x.yaml of yinghdb/EmbedMask 3b4d9fb
# (v1, arXiv 1912.01954).
_base_ = ['./embedmask_r101_fpn_1x_coco.py', '../_base_/embedmask_versions.py']
model = _base_.v1
