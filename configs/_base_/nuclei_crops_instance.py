# nuclei_instance.py with crops to train on; a photo has up to 375 nuclei, all of which count.
_base_ = ['./nuclei_instance.py', './photo_crops.py']
train_dataloader = dict(dataset=dict(pipeline=_base_.crop_pipeline))
val_dataloader = dict(dataset=dict(pipeline=_base_.photo_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(max_dets=400)
test_evaluator = val_evaluator
