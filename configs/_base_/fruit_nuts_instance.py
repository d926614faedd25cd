# 18 photos of dates, figs and hazelnuts, 640 x 480, shown at half size.
_base_ = './instance_loaders.py'
data_root = '{{$MMREFINE_FRUIT_NUTS:data/fruit_nuts_mit}}/'
metainfo = dict(
    classes=('date', 'fig', 'hazelnut'), palette=[(160, 82, 45), (90, 60, 140), (220, 170, 60)]
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='Resize', scale_factor=0.5),
    dict(type='RandomFlip', prob=[0.3, 0.3], direction=['horizontal', 'vertical']),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale_factor=0.5),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
common = dict(data_root=data_root, metainfo=metainfo, data_prefix=dict(img='images/'))
train_dataloader = dict(
    dataset=dict(ann_file='annotations/instances_train.json', pipeline=train_pipeline, **common)
)
val_dataloader = dict(
    dataset=dict(ann_file='annotations/instances_val.json', pipeline=test_pipeline, **common)
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val.json')
test_evaluator = val_evaluator
