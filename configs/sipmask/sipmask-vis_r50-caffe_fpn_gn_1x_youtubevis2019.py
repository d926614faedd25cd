# Run: configs/sipmask/sipmask_r50_caffe_fpn_gn_1x.py of SipMask-VIS in JialeCao001/SipMask, on 4 GPUs
# of 8 pairs of frames. It starts from the image model; pass its file (the authors'
# sipmask_r50_caffe_fpn_gn_1x or one trained here) as --cfg-options load_from=FILE: layers that
# differ, the classifier and one more convolution per tower, are left out with a warning.
_base_ = './sipmask_r50-caffe_fpn_gn_1x_coco.py'
model = dict(
    type='SipMaskVIS',
    data_preprocessor=dict(
        _delete_=True,
        type='TrackDataPreprocessor',
        mean=[102.9801, 115.9465, 122.7717],
        std=[1.0, 1.0, 1.0],
        bgr_to_rgb=False,
        pad_size_divisor=32,
    ),
    # Parity: the box loss counts pixels where the image model counts strides
    bbox_head=dict(
        num_classes=40,
        stacked_convs=3,
        box_loss_in_pixels=True,
        init_cfg=dict(
            type='Normal',
            layer='Conv2d',
            std=0.01,
            override=dict(type='Normal', name='conv_cls', std=0.01, bias_prob=0.01),
        ),
    ),
    track_head=dict(type='SipMaskTrackHead'),
    # Parity: ids may repeat within a frame, nothing is forgotten, classes stay as first seen
    tracker=dict(
        type='SipMaskTracker',
        iou_offset=1.0,
        share_ids=True,
        update_labels=False,
        max_objects=None,
    ),
    test_cfg=dict(
        nms_pre=200,
        score_thr=0.03,
        nms=dict(_delete_=True, type='fast', iou_threshold=0.5, top_k=200),
        max_per_img=10,
        scale_limits=(640, 360),
        mask_thr=0.5,
        box_export_offset=0,
    ),
)
data_root = 'data/youtube_vis_2019/'
train_pipeline = [
    dict(type='UniformRefFrameSample', num_ref_imgs=1, frame_range=1000, filter_key_img=True),
    dict(
        type='TransformBroadcaster',
        share_random_params=True,
        transforms=[
            dict(type='LoadImageFromFile', backend_args=None),
            dict(type='LoadTrackMaskAnnotations'),
            dict(type='InclusiveBoxes'),
            dict(type='Resize', scale=(640, 360), keep_ratio=True),
            dict(type='InclusiveFlip', prob=0.5),
        ],
    ),
    dict(type='PackTrackInputs'),
]
test_pipeline = [
    dict(
        type='TransformBroadcaster',
        transforms=[
            dict(type='LoadImageFromFile', backend_args=None),
            dict(type='Resize', scale=(640, 360), keep_ratio=True),
            dict(type='LoadTrackMaskAnnotations'),
        ],
    ),
    dict(type='PackTrackInputs'),
]
train_dataloader = dict(
    _delete_=True,
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='TrackImgSampler'),
    batch_sampler=dict(type='TrackAspectRatioBatchSampler'),
    dataset=dict(
        type='YouTubeVISDataset',
        data_root=data_root,
        dataset_version='2019',
        ann_file='annotations/youtube_vis_2019_train.json',
        data_prefix=dict(img_path='train/JPEGImages'),
        pipeline=train_pipeline,
    ),
)
# Frame by frame, so that memory does not grow with the length of a video
val_dataloader = dict(
    _delete_=True,
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='TrackImgSampler'),
    dataset=dict(
        type='YouTubeVISDataset',
        data_root=data_root,
        dataset_version='2019',
        ann_file='annotations/youtube_vis_2019_valid.json',
        data_prefix=dict(img_path='valid/JPEGImages'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
# The annotations of the validation videos are not public: results go to the server
val_evaluator = dict(
    _delete_=True,
    type='VideoMaskAPMetric',
    format_only=True,
    outfile_prefix='work_dirs/youtube_vis_2019_valid',
)
test_evaluator = val_evaluator
train_cfg = dict(val_begin=13)
param_scheduler = [
    dict(type='LinearLR', start_factor=1 / 80, by_epoch=False, begin=0, end=1000),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=12, milestones=[8, 11], gamma=0.1),
]
optim_wrapper = dict(optimizer=dict(lr=0.005))
auto_scale_lr = dict(base_batch_size=32)
default_hooks = dict(visualization=dict(type='TrackVisualizationHook', draw=False))
visualizer = dict(type='TrackLocalVisualizer')
