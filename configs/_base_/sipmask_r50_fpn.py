# SipMask with today's conventions instead of the originals' quirks, for training on one's own data.
_base_ = 'mmdet::_base_/models/retinanet_r50_fpn.py'
custom_imports = dict(imports=['mmrefine'], allow_failed_imports=False)
runner_type = 'mmdet.QuietRunner'
model = dict(
    type='SipMask',
    data_preprocessor=dict(pad_mask=True),
    neck=dict(add_extra_convs='on_output', relu_before_extra_convs=True),
    bbox_head=dict(_delete_=True, type='SipMaskBBoxHead', num_classes=80),
    mask_head=dict(type='SipMaskHead'),
    train_cfg=None,
    test_cfg=dict(
        _delete_=True,
        nms_pre=1000,
        score_thr=0.05,
        nms=dict(type='greedy', iou_threshold=0.5),
        max_per_img=100,
        mask_thr=0.4,
        mask_format='dense',
    ),
)
