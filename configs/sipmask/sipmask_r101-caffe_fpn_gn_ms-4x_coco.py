# Run: sipmask_r101_caffe_fpn_gn_ms_4x.py of SipMask-mmdetection, 2 images a GPU. How many GPUs is
# not written anywhere; the base batch size of 16 takes 8 of them.
_base_ = './sipmask_r50-caffe_fpn_gn_ms-2x_coco.py'
model = dict(
    backbone=dict(depth=101, init_cfg=dict(checkpoint='open-mmlab://detectron/resnet101_caffe'))
)
train_dataloader = dict(batch_size=2)
train_cfg = dict(max_epochs=48)
param_scheduler = [
    dict(type='ConstantLR', factor=1.0 / 3, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', begin=0, end=48, by_epoch=True, milestones=[40, 46], gamma=0.1),
]
