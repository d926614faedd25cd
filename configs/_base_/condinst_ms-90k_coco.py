# MMDetection's CondInst to take other heads; its recipe, which here also learns masks in RLE.
_base_ = 'mmdet::condinst/condinst_r50_fpn_ms-poly-90k_coco_instance.py'
custom_imports = dict(imports=['mmrefine'], allow_failed_imports=False)
default_hooks = dict(learnable=dict(type='LearnableDataHook'))
train_pipeline = _base_.train_pipeline
train_pipeline[1] = dict(type='LoadMaskAnnotations', with_bbox=True)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
