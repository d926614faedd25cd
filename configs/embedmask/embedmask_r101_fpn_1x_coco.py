# No run of the authors: v1 and v2 have an R101_1x, v3 does not.
_base_ = './embedmask_r50_fpn_1x_coco.py'
model = dict(
    backbone=dict(depth=101, init_cfg=dict(checkpoint='open-mmlab://detectron/resnet101_caffe'))
)
