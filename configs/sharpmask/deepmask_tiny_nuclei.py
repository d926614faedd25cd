# Photos of cell nuclei in minutes on a CPU; nuclei are 10 to 60 pixels long.
_base_ = [
    '../_base_/deepmask_compact.py',
    '../_base_/nuclei_tiny_instance.py',
    '../_base_/schedule_patches.py',
]
custom_imports = dict(imports=['mmrefine'], allow_failed_imports=False)
model = dict(test_cfg=dict(log2_scales=(-0.5, 0.0, 0.5, 1.0, 1.5)))
train_pipeline = _base_.patch_pipeline
test_pipeline = _base_.image_pipeline
train_dataloader = dict(
    _delete_=True,
    batch_size=32,
    num_workers=0,
    sampler=_base_.patch_sampler,
    dataset=dict(
        type='ObjectPatchDataset',
        length=128000,
        patch=80,
        dataset=dict(
            type='CheckedCocoDataset',
            data_root=_base_.data_root,
            metainfo=_base_.metainfo,
            ann_file='annotations/instances_train_tiny.json',
            data_prefix=dict(img='images/'),
            filter_cfg=dict(filter_empty_gt=True, min_size=32),
        ),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(batch_size=1, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(
    _delete_=True,
    type='ProposalARMetric',
    ann_file=_base_.data_root + 'annotations/instances_val_tiny.json',
)
test_evaluator = val_evaluator
