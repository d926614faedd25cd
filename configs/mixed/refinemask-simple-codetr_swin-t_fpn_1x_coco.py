# The mask head of the Co-DETR instance models. Their five-scale pyramid has strides 4 to 64.
_base_ = 'mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py'
custom_imports = dict(imports=['mmrefine'], allow_failed_imports=False)
default_hooks = dict(learnable=dict(type='LearnableDataHook'))
model = dict(
    roi_head=dict(
        type='RefineRoIHead',
        mask_roi_extractor=dict(featmap_strides=[4, 8, 16, 32, 64]),
        mask_head=dict(
            _delete_=True,
            type='SimpleRefineMaskHead',
            num_convs_instance=1,
            num_convs_semantic=2,
            norm_cfg=dict(type='LayerNorm2d'),
            stage_num_classes=1)))  # fmt: skip
