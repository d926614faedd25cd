# No config of the author's repository: the R101_ms_3x weights, tested at a short side of 600 and a
# long side of at most 800 (EmbedMask-600 of the arXiv text; the 800 is what users report).
_base_ = './embedmask_r101_fpn_ms-3x_coco.py'
test_pipeline = [
    dict(type='LoadImageFromFile', backend_args=None, imdecode_backend='pillow'),
    dict(type='TruncatedResize', scale=(800, 600)),
    dict(type='LoadMaskAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
