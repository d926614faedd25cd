# Run: sipmask_r50_caffe_fpn_ssd_6x.py of SipMask-mmdetection: no norm in the head, 3 repeats.
_base_ = './sipmask_r50-caffe_fpn_gn_ssd-10x_coco.py'
model = dict(bbox_head=dict(norm_cfg=None))
train_dataloader = dict(dataset=dict(times=3))
