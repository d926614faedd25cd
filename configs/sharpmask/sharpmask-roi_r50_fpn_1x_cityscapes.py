_base_ = 'mmdet::cityscapes/mask-rcnn_r50_fpn_1x_cityscapes.py'
custom_imports = dict(imports=['mmrefine'], allow_failed_imports=False)
default_hooks = dict(learnable=dict(type='LearnableDataHook'))
model = dict(
    backbone=dict(
        init_cfg=dict(_delete_=True, type='Pretrained', checkpoint='torchvision://resnet50')
    ),
    roi_head=dict(
        type='SharpMaskRoIHead',
        mask_roi_extractor=dict(_delete_=True, type='PyramidRoIExtractor'),
        mask_head=dict(_delete_=True, type='SharpMaskHead', num_classes=8),
    ),
)
# from ImageNet, not from the base's Mask R-CNN trained on COCO, which has no such mask head
load_from = None
# lr is for 8 images an iteration
auto_scale_lr = dict(base_batch_size=8)
