# Fast R-CNN on the boxes of dumped SharpMask proposals (sharpmask-proposals_r50_coco.py).
_base_ = 'mmdet::fast_rcnn/fast-rcnn_r50_fpn_1x_coco.py'
custom_imports = dict(imports=['mmrefine'], allow_failed_imports=False)
default_hooks = dict(learnable=dict(type='LearnableDataHook'))
train_dataloader = dict(dataset=dict(proposal_file='proposals/sharpmask/train2017.pkl'))
val_dataloader = dict(dataset=dict(proposal_file='proposals/sharpmask/val2017.pkl'))
test_dataloader = val_dataloader
