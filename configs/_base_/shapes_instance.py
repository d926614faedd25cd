# Generated shapes: python tools/make_shapes.py data/shapes
_base_ = './instance_loaders.py'
data_root = '{{$MMREFINE_SHAPES:data/shapes}}/'
metainfo = dict(
    classes=('pebble', 'star', 'ring', 'worm', 'moon', 'cross', 'key', 'fork'),
    palette=[
        (220, 20, 60), (255, 190, 0), (0, 110, 230), (255, 77, 255),
        (60, 190, 60), (130, 70, 220), (150, 150, 160), (0, 190, 190),
    ],
)  # fmt: skip
origin = 'python tools/make_shapes.py data/shapes writes it; MMREFINE_SHAPES names another folder'
common = dict(data_root=data_root, metainfo=metainfo, origin=origin)
train_dataloader = dict(dataset=dict(ann_file='annotations/instances_train.json', **common))
val_dataloader = dict(dataset=dict(ann_file='annotations/instances_val.json', **common))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val.json')
test_evaluator = val_evaluator
