# Clips of 640 x 360 made from photos by moving the camera, at half their size. Eight of them, to see
# that everything fits together; no training set.
_base_ = './video_loaders.py'
data_root = '{{$MMREFINE_PHOTO_CLIPS:data/vis_cc_pseudo}}/'
train_pipeline = [
    dict(type='UniformRefFrameSample', num_ref_imgs=1, frame_range=1000, filter_key_img=True),
    dict(
        type='TransformBroadcaster',
        share_random_params=True,
        transforms=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadTrackMaskAnnotations'),
            dict(type='Resize', scale=(320, 180), keep_ratio=True),
            dict(type='RandomFlip', prob=0.5),
        ],
    ),
    dict(type='PackTrackInputs'),
]
test_pipeline = [
    dict(
        type='TransformBroadcaster',
        transforms=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(320, 180), keep_ratio=True),
            dict(type='LoadTrackMaskAnnotations'),
        ],
    ),
    dict(type='PackTrackInputs'),
]
train_dataloader = dict(dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = [
    dict(type='VideoMaskAPMetric', ann_file=data_root + 'annotations/youtube_vis_2019_val.json'),
    dict(type='IdSwitchMetric', score_threshold=0.3),
]
test_evaluator = val_evaluator
