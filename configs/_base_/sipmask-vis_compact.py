# Small video model, today's conventions.
_base_ = './sipmask_compact.py'
model = dict(
    type='SipMaskVIS',
    data_preprocessor=dict(type='TrackDataPreprocessor', pad_mask=False),
    track_head=dict(type='SipMaskTrackHead', in_channels=64, feat_channels=64, embed_channels=128),
    tracker=dict(type='SipMaskTracker'),
    test_cfg=dict(max_per_img=20),
)
