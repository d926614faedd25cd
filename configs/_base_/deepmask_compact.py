# DeepMask with half-size windows on a narrow ResNet-18 from scratch, and what SharpMask adds.
conv_cfg = dict(type='MirrorPadConv2d')
model = dict(
    type='DeepMask',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    backbone=dict(
        type='StemResNet', depth=18, base_channels=24, conv_cfg=conv_cfg, norm_eval=False
    ),
    mask_head=dict(
        type='DeepMaskHead',
        in_channels=96,
        reduce_channels=64,
        code_channels=256,
        grid_size=5,
        mask_size=28,
        score_channels=256,
        dropout=0.2,
        score_weight=0.5,
    ),
    test_cfg=dict(max_per_img=1000, mask_format='rle'),
)
refine_head = dict(
    type='TopDownRefineHead',
    feature_channels=(96, 48, 24, 24),
    code_channels=256,
    grid_size=5,
    hidden_channels=(32, 32, 32, 32),
    conv_cfg=conv_cfg,
)
patch_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='CropObjectPatch', size=80, label_size=56),
    dict(type='PackPatchInputs'),
]
refine_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='CropObjectPatch', size=80, label_size=80),
    dict(type='PackPatchInputs'),
]
image_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape')),
]
# A child's train_dataloader: these two around the dataset of its pictures.
patch_loader = dict(batch_size=32, num_workers=0, sampler=dict(type='ConsecutiveSampler'))
patches = dict(type='ObjectPatchDataset', length=128000, patch=80, pipeline=patch_pipeline)
