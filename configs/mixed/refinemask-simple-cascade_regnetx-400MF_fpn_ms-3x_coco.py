_base_ = 'mmdet::regnet/cascade-mask-rcnn_regnetx-400MF_fpn_ms-3x_coco.py'
custom_imports = dict(imports=['mmrefine'], allow_failed_imports=False)
default_hooks = dict(learnable=dict(type='LearnableDataHook'))
model = dict(
    roi_head=dict(
        type='CascadeRefineRoIHead', mask_head=dict(_delete_=True, type='SimpleRefineMaskHead')
    )
)
