# SharpMaskHead in the detector of mask-rcnn_compact.py.
_base_ = './mask-rcnn_compact.py'
custom_imports = dict(imports=['mmrefine'], allow_failed_imports=False)
model = dict(
    roi_head=dict(
        type='SharpMaskRoIHead',
        mask_roi_extractor=dict(
            _delete_=True,
            type='PyramidRoIExtractor',
            out_channels=64,
            featmap_strides=[4, 8, 16],
            level_choice='relative',  # objects of 20 pixels have one cell of stride 16
        ),
        mask_head=dict(
            _delete_=True,
            type='SharpMaskHead',
            in_channels=64,
            levels=3,
            channels=64,
            hidden_channels=32,
            upsample_last=True,
        ),
    ),
)
