_base_ = 'mmdet::hrnet/mask-rcnn_hrnetv2p-w18-1x_coco.py'
custom_imports = dict(imports=['mmrefine'], allow_failed_imports=False)
model = dict(
    roi_head=dict(
        mask_roi_extractor=dict(_delete_=True, type='PyramidRoIExtractor'),
        mask_head=dict(_delete_=True, type='SharpMaskHead'),
    ),
)
