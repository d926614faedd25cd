# Run: configs/sipmask/sipmask_r50_caffe_fpn_gn_ms_1x.py of SipMask-VIS; it starts from the image
# model sipmask_r50_caffe_fpn_gn_ms_2x.
_base_ = './sipmask-vis_r50-caffe_fpn_gn_1x_youtubevis2019.py'
train_pipeline = [
    dict(type='UniformRefFrameSample', num_ref_imgs=1, frame_range=1000, filter_key_img=True),
    dict(
        type='TransformBroadcaster',
        share_random_params=True,
        transforms=[
            dict(type='LoadImageFromFile', backend_args=None),
            dict(type='LoadTrackMaskAnnotations'),
            dict(type='InclusiveBoxes'),
            # 649 and not 640, as in the original
            dict(type='RandomResize', scale=[(649, 360), (960, 480)], keep_ratio=True),
            dict(type='InclusiveFlip', prob=0.5),
        ],
    ),
    dict(type='PackTrackInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
