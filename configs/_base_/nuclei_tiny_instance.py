# 40 training and 20 validation pictures of at most 360 pixels.
_base_ = './nuclei_instance.py'
train_dataloader = dict(dataset=dict(ann_file='annotations/instances_train_tiny.json'))
val_dataloader = dict(dataset=dict(ann_file='annotations/instances_val_tiny.json'))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=_base_.data_root + 'annotations/instances_val_tiny.json')
test_evaluator = val_evaluator
