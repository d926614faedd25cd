# Run: configs/EmbedMask/MS_R_101_3x.yaml of yinghdb/AdelaiDet 94a9b7c.
_base_ = './embedmask-adet_r50_fpn_ms-3x_coco.py'
model = dict(
    backbone=dict(depth=101, init_cfg=dict(checkpoint='open-mmlab://detectron2/resnet101_caffe'))
)
