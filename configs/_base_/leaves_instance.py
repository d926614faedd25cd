# 250 photos of a coffee leaf each, 512 x 256, and its lesions, MIT (docs/learning.md#sets-of-photos).
_base_ = ['./instance_loaders.py', './photo_crops.py']
data_root = '{{$MMREFINE_LEAVES:data/coffee_leaves_mit}}/'
metainfo = dict(classes=('leaf', 'lesion'), palette=[(60, 190, 60), (180, 110, 40)])
common = dict(data_root=data_root, metainfo=metainfo)
train_dataloader = dict(
    dataset=dict(
        ann_file='annotations/leaves_train.json',
        data_prefix=dict(img='images/train/'),
        pipeline=_base_.crop_pipeline,
        **common,
    )
)
val_dataloader = dict(
    dataset=dict(
        ann_file='annotations/leaves_val.json',
        data_prefix=dict(img='images/val/'),
        pipeline=_base_.photo_pipeline,
        **common,
    )
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/leaves_val.json')
test_evaluator = val_evaluator
