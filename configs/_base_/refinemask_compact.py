# RefineMask on the detector of mask-rcnn_compact.py.
_base_ = './mask-rcnn_compact.py'
custom_imports = dict(imports=['mmrefine'], allow_failed_imports=False)
model = dict(
    roi_head=dict(
        type='RefineRoIHead',
        mask_head=dict(
            _delete_=True,
            type='RefineMaskHead',
            num_convs_semantic=2,
            conv_in_channels_instance=64,
            conv_in_channels_semantic=64,
            conv_out_channels_instance=64,
            conv_out_channels_semantic=64,
        ),
    )
)
