# Run: sipmask_r101_caffe_fpn_ssd_6x.py of SipMask-mmdetection.
_base_ = './sipmask_r50-caffe_fpn_ssd-6x_coco.py'
model = dict(
    backbone=dict(depth=101, init_cfg=dict(checkpoint='open-mmlab://detectron/resnet101_caffe'))
)
