_base_ = './sipmask_r50-caffe_fpn_gn_ssd-10x_coco.py'
model = dict(
    backbone=dict(depth=101, init_cfg=dict(checkpoint='open-mmlab://detectron/resnet101_caffe'))
)
