# 515 photos of buildings, 512 x 512, ten classes, CC BY 4.0 (docs/learning.md#sets-of-photos).
_base_ = ['./instance_loaders.py', './photo_crops.py']
data_root = '{{$MMREFINE_FACADES:data/facades_ccby}}/'
metainfo = dict(
    classes=(
        'balcony-fence', 'car', 'facade', 'fence', 'non-building-infrastructure', 'shop', 'street',
        'traffic-infrastructure', 'vegetation', 'window',
    ),
    palette=[
        (255, 190, 0), (220, 20, 60), (150, 150, 160), (130, 70, 220), (0, 190, 190), (255, 77, 255),
        (90, 90, 90), (180, 110, 40), (60, 190, 60), (0, 110, 230),
    ],
)  # fmt: skip
common = dict(data_root=data_root, metainfo=metainfo)
train_dataloader = dict(
    dataset=dict(
        ann_file='annotations/facades_train.json',
        data_prefix=dict(img='images/train/'),
        pipeline=_base_.crop_pipeline,
        **common,
    )
)
val_dataloader = dict(
    dataset=dict(
        ann_file='annotations/facades_val.json',
        data_prefix=dict(img='images/val/'),
        pipeline=_base_.photo_pipeline,
        **common,
    )
)
test_dataloader = val_dataloader
# A photo has up to 98 objects: detections beyond 100 count too.
val_evaluator = dict(ann_file=data_root + 'annotations/facades_val.json', max_dets=200)
test_evaluator = val_evaluator
