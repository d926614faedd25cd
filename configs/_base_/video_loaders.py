# Small clips in the layout MMDetection's video data sets read, at their own size.
train_pipeline = [
    dict(type='UniformRefFrameSample', num_ref_imgs=1, frame_range=1000, filter_key_img=True),
    dict(
        type='TransformBroadcaster',
        share_random_params=True,
        transforms=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadTrackMaskAnnotations'),
            dict(type='Resize', scale_factor=1.0),
            dict(type='RandomFlip', prob=[0.3, 0.3], direction=['horizontal', 'vertical']),
        ],
    ),
    dict(type='PackTrackInputs'),
]
test_pipeline = [
    dict(
        type='TransformBroadcaster',
        transforms=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale_factor=1.0),
            dict(type='LoadTrackMaskAnnotations'),
        ],
    ),
    dict(type='PackTrackInputs'),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='TrackImgSampler'),
    batch_sampler=dict(type='TrackAspectRatioBatchSampler'),
    dataset=dict(
        type='CheckedYouTubeVISDataset',
        dataset_version='2019',
        ann_file='annotations/cocovid_train.json',
        data_prefix=dict(img_path='train/JPEGImages'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    drop_last=False,
    sampler=dict(type='TrackImgSampler'),
    dataset=dict(
        type='CheckedYouTubeVISDataset',
        dataset_version='2019',
        ann_file='annotations/cocovid_val.json',
        data_prefix=dict(img_path='val/JPEGImages'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
