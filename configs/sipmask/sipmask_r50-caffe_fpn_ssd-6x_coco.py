_base_ = './sipmask_r50-caffe_fpn_gn_ssd-10x_coco.py'
model = dict(bbox_head=dict(norm_cfg=None))
train_dataloader = dict(dataset=dict(times=3))
