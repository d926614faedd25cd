# The photos of coco_mini_instance.py with LVIS v0.5 class ids and federated lists.
_base_ = 'mmdet::_base_/datasets/lvis_v0.5_instance.py'
data_root = '{{$MMREFINE_COCO_MINI:data/coco_cc_mini}}/'
train_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        dataset=dict(data_root=data_root, ann_file='annotations/lvis05_style_train2017.json')
    ),
)
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root=data_root, ann_file='annotations/lvis05_style_val2017.json'),
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/lvis05_style_val2017.json')
test_evaluator = val_evaluator
