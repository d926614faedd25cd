# Run: configs/EmbedMask/MS_R_50_3x.yaml of yinghdb/AdelaiDet 94a9b7c; no weights were published.
_base_ = './embedmask-adet_r50_fpn_ms-1x_coco.py'
train_cfg = dict(max_iters=270000)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(
        type='MultiStepLR',
        by_epoch=False,
        begin=0,
        end=270000,
        milestones=[210000, 250000],
        gamma=0.1,
    ),
]
