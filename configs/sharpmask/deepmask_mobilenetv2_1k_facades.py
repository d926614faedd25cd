# DeepMask from ImageNet weights on buildings: windows of 10 pixels, and facades that fill the photo.
_base_ = ['../_base_/deepmask_mobilenetv2.py', '../_base_/facades_instance.py']
model = dict(test_cfg=dict(log2_scales=(-2.5, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5)))
train_dataloader = dict(
    _delete_=True,
    **_base_.patch_loader,
    dataset=dict(**_base_.patches, dataset=_base_.train_dataloader.dataset),
)
val_dataloader = dict(batch_size=1, dataset=dict(pipeline=_base_.image_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type='ProposalARMetric', ann_file=_base_.val_evaluator.ann_file)
test_evaluator = val_evaluator
