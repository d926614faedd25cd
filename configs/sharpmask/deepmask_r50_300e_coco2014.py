# Run: `th train.lua`, evaluated by `th evalPerImage.lua -np 1000` of
# facebookresearch/deepmask: train2014, and the 5000 images of val2014 with the lowest ids.
_base_ = ['./deepmask_r50_300e_coco.py', '../_base_/coco2014.py']
train_dataloader = dict(dataset=dict(dataset=_base_.train2014))
val_dataloader = dict(dataset=dict(dataset=_base_.val2014))
test_dataloader = dict(dataset=_base_.first2014)
test_evaluator = _base_.first2014_evaluator
