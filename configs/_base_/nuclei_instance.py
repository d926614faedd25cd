# Cell nuclei of BBBC038 (2018 Data Science Bowl) in COCO format, CC0.
_base_ = './instance_loaders.py'
data_root = '{{$MMREFINE_NUCLEI:data/nuclei_cc0}}/'
metainfo = dict(classes=('nucleus',), palette=[(220, 20, 60)])
common = dict(data_root=data_root, metainfo=metainfo, data_prefix=dict(img='images/'))
train_dataloader = dict(dataset=dict(ann_file='annotations/instances_train.json', **common))
val_dataloader = dict(dataset=dict(ann_file='annotations/instances_val.json', **common))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val.json')
test_evaluator = val_evaluator
