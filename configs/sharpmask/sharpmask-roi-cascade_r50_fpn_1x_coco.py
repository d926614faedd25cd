# Cascade Mask R-CNN with the refinement in its three mask heads.
_base_ = 'mmdet::cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py'
custom_imports = dict(imports=['mmrefine'], allow_failed_imports=False)
default_hooks = dict(learnable=dict(type='LearnableDataHook'))
model = dict(
    roi_head=dict(
        type='CascadeSharpMaskRoIHead',
        mask_roi_extractor=dict(_delete_=True, type='PyramidRoIExtractor'),
        mask_head=dict(_delete_=True, type='SharpMaskHead'),
    ),
)
