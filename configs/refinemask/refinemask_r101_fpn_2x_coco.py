# Run: coco/r101-refinemask-2x.py of zhanggang001/RefineMask.
_base_ = './refinemask_r50_fpn_2x_coco.py'
model = dict(
    backbone=dict(depth=101, init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet101'))
)
