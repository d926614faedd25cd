# Run: sipmask++_r101_caffe_fpn_ssd_gn_10x.py of SipMask-mmdetection.
# SipMask++: deformable convolutions in every third block of C3-C5, and re-scored masks.
_base_ = './sipmask_r101-caffe_fpn_gn_ssd-10x_coco.py'
model = dict(
    backbone=dict(
        type='IntervalDCNResNet',
        dcn_interval=3,
        dcn=dict(type='DCN', deform_groups=1, fallback_on_stride=False),
        stage_with_dcn=(False, True, True, True),
    ),
    mask_head=dict(rescoring=True),
)
