# Generated clips: python tools/make_shapes.py data/shapes_video --format youtube-vis
_base_ = './video_loaders.py'
data_root = '{{$MMREFINE_SHAPES_VIDEO:data/shapes_video}}/'
metainfo = dict(
    classes=('pebble', 'star', 'ring', 'worm', 'moon', 'cross', 'key', 'fork'),
    palette=[
        (220, 20, 60), (255, 190, 0), (0, 110, 230), (255, 77, 255),
        (60, 190, 60), (130, 70, 220), (150, 150, 160), (0, 190, 190),
    ],
)  # fmt: skip
train_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo))
val_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo))
test_dataloader = val_dataloader
val_evaluator = [
    dict(type='VideoMaskAPMetric', ann_file=data_root + 'annotations/youtube_vis_2019_val.json'),
    dict(type='IdSwitchMetric', score_threshold=0.3),
]
test_evaluator = val_evaluator
