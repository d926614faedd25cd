# Run: sipmask++_r101_caffe_fpn_ssd_6x.py of SipMask-mmdetection.
_base_ = './sipmask++_r101-caffe_fpn_gn_ssd-10x_coco.py'
model = dict(bbox_head=dict(norm_cfg=None))
train_dataloader = dict(dataset=dict(times=3))
