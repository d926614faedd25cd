_base_ = [
    '../_base_/mask-rcnn_compact.py',
    '../_base_/nuclei_tiny_instance.py',
    '../_base_/schedule_tiny.py',
]
custom_imports = dict(imports=['mmrefine'], allow_failed_imports=False)
model = dict(
    roi_head=dict(
        bbox_head=dict(num_classes=1),
        mask_roi_extractor=dict(
            _delete_=True, type='PyramidRoIExtractor', out_channels=64, featmap_strides=[4, 8, 16]
        ),
        mask_head=dict(
            _delete_=True,
            type='SharpMaskHead',
            num_classes=1,
            in_channels=64,
            levels=3,
            channels=64,
            hidden_channels=32,
            upsample_last=True,
        ),
    ),
    train_cfg=dict(rcnn=dict(mask_size=56)),
    test_cfg=dict(rcnn=dict(max_per_img=200)),
)
