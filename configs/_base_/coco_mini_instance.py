# 158 freely licensed COCO photos: for trying a COCO model's pipeline, not for training one.
_base_ = 'mmdet::_base_/datasets/coco_instance.py'
data_root = '{{$MMREFINE_COCO_MINI:data/coco_cc_mini}}/'
train_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root=data_root))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val2017.json')
test_evaluator = val_evaluator
