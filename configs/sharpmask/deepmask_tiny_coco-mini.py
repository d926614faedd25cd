# 158 COCO photos: for trying the pipeline on real input, not for results.
_base_ = [
    '../_base_/deepmask_compact.py',
    '../_base_/coco_mini_instance.py',
    '../_base_/schedule_patches.py',
]
custom_imports = dict(imports=['mmrefine'], allow_failed_imports=False)
model = dict(test_cfg=dict(log2_scales=(-2.5, -2.0, -1.5, -1.0, -0.5, 0.0)))
train_dataloader = dict(
    _delete_=True,
    **_base_.patch_loader,
    dataset=dict(**_base_.patches, dataset=_base_.train_dataloader.dataset),
)
val_dataloader = dict(batch_size=1, dataset=dict(pipeline=_base_.image_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type='ProposalARMetric', ann_file=_base_.val_evaluator.ann_file)
test_evaluator = val_evaluator
train_cfg = dict(max_iters=400, val_interval=400)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.02, by_epoch=False, begin=50, end=400),
]
