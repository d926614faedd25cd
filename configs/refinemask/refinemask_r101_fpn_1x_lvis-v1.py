# Run: no config of the authors' repository has it, though weights are published: their LVIS config
# with ResNet-101.
_base_ = './refinemask_r50_fpn_1x_lvis-v1.py'
model = dict(
    backbone=dict(depth=101, init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet101'))
)
