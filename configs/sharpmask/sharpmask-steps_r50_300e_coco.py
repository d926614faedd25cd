# SharpMask by the table of rates in the authors' trainer, which an unbroken run does not follow:
# 1e-3, from epoch 51 on 5e-4, from epoch 81 on 1e-4. As run: sharpmask_r50_300e_coco.py
_base_ = './sharpmask_r50_300e_coco.py'
param_scheduler = [
    dict(type='MultiStepLR', milestones=[50], gamma=0.5, by_epoch=True),
    dict(type='MultiStepLR', milestones=[80], gamma=0.2, by_epoch=True),
]
