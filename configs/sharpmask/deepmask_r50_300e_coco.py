# Run: `th train.lua` of facebookresearch/deepmask, on COCO 2017 (the run itself is
# deepmask_r50_300e_coco2014.py). Epochs are 4000 batches of drawn patches.
_base_ = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'
custom_imports = dict(imports=['mmrefine'], allow_failed_imports=False)
# Parity: the released code mirrors the border and drops the gradient of the mirrored ring
conv_cfg = dict(type='MirrorPadConv2d', pad_grad=False)
model = dict(
    _delete_=True,
    type='DeepMask',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    backbone=dict(
        type='StemResNet',
        depth=50,
        conv_cfg=conv_cfg,
        norm_cfg=dict(type='BN', requires_grad=False),
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
    ),
    mask_head=dict(type='DeepMaskHead'),
    # Parity: a head is stepped on its own batches only, decay and momentum included
    train_cfg=dict(skip_idle=True),
    test_cfg=dict(max_per_img=1000, mask_format='rle'),  # as many as AR@1000 takes
)
dataset_type = 'CocoDataset'
data_root = 'data/coco/'
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='CropObjectPatch', label_size=112, resample='official'),
    dict(type='PackPatchInputs'),
]
val_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='CropObjectPatch', label_size=112, resample='official', flip_prob=0.0),
    dict(type='PackPatchInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape')),
]
# Parity: a batch trains one head, positions of different scales are compared, crowds are objects
sampling = dict(mode='alternate', batch_size=32, negative_rule='official', crowd_positives=True)
train_dataloader = dict(
    _delete_=True,
    batch_size=32,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='ConsecutiveSampler'),
    dataset=dict(
        type='ObjectPatchDataset',
        length=128000,
        **sampling,
        dataset=dict(
            type=dataset_type,
            data_root=data_root,
            ann_file='annotations/instances_train2017.json',
            data_prefix=dict(img='train2017/'),
            filter_cfg=dict(filter_empty_gt=True, min_size=1),
        ),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    _delete_=True,
    batch_size=32,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='ConsecutiveSampler'),
    dataset=dict(
        type='ObjectPatchDataset',
        length=16000,
        **sampling,
        dataset=dict(
            type=dataset_type,
            data_root=data_root,
            ann_file='annotations/instances_val2017.json',
            data_prefix=dict(img='val2017/'),
            filter_cfg=dict(filter_empty_gt=True, min_size=1),
        ),
        pipeline=val_pipeline,
    ),
)
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
val_evaluator = dict(_delete_=True, type='PatchMaskMetric')
test_evaluator = dict(
    _delete_=True,
    type='ProposalARMetric',
    ann_file=data_root + 'annotations/instances_val2017.json',
)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.001, momentum=0.9, weight_decay=0.0005))
train_cfg = dict(max_epochs=300, val_interval=2)
# 1e-3, from epoch 51 on 5e-4, from epoch 121 on 1e-4
param_scheduler = [
    dict(type='MultiStepLR', milestones=[50], gamma=0.5, by_epoch=True),
    dict(type='MultiStepLR', milestones=[120], gamma=0.2, by_epoch=True),
]
# batches train one of the two heads
find_unused_parameters = True
default_hooks = dict(checkpoint=dict(save_best='patch/iou@0.7', rule='greater'))
# The mask loss is a sum over the batch of all GPUs: its gradient grows with the batch, so the rate
# must not. Keep 32 patches in all; without a base batch size --auto-scale-lr refuses to scale.
auto_scale_lr = dict(_delete_=True, enable=False)
