# RefineMask as published, on stock Mask R-CNN: other mask branch, box losses of weight 2.
_base_ = 'mmdet::_base_/models/mask-rcnn_r50_fpn.py'
custom_imports = dict(imports=['mmrefine'], allow_failed_imports=False)
runner_type = 'mmdet.QuietRunner'
model = dict(
    roi_head=dict(
        type='RefineRoIHead',
        bbox_head=dict(loss_cls=dict(loss_weight=2.0), loss_bbox=dict(loss_weight=2.0)),
        mask_head=dict(
            _delete_=True,
            type='RefineMaskHead',
            logit_std=None,  # Parity: initialisation of the published training
        ),
    ),
    # Parity: the original keeps proposals without area; drop them with min_bbox_size=0
    train_cfg=dict(rpn_proposal=dict(min_bbox_size=-1)),
    test_cfg=dict(rpn=dict(min_bbox_size=-1)),
)
# Stops a run whose loss is NaN or infinite instead of going on silently.
custom_hooks = [dict(type='CheckInvalidLossHook', interval=50)]
