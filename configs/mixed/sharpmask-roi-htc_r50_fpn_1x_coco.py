_base_ = 'mmdet::htc/htc_r50_fpn_1x_coco.py'
custom_imports = dict(imports=['mmrefine'], allow_failed_imports=False)
default_hooks = dict(learnable=dict(type='LearnableDataHook'))
model = dict(
    roi_head=dict(
        type='HTCSharpMaskRoIHead',
        mask_roi_extractor=dict(_delete_=True, type='PyramidRoIExtractor'),
        mask_head=dict(_delete_=True, type='SharpMaskHead'),
    ),
)
