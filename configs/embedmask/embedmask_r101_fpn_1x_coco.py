# No such weights were published; the setting between embedmask_r50_fpn_1x_coco and embedmask_r101_fpn_ms-3x_coco.
_base_ = './embedmask_r50_fpn_1x_coco.py'
model = dict(
    backbone=dict(depth=101, init_cfg=dict(checkpoint='open-mmlab://detectron/resnet101_caffe'))
)
