# Run: sipmask_r50_caffe_fpn_ssd_gn_10x.py of SipMask-mmdetection, on 4 GPUs of 8 images. Real time:
# 544 x 544 pixels, short towers, parallel NMS, SSD's augmentation.
_base_ = './sipmask_r50-caffe_fpn_gn_1x_coco.py'
model = dict(
    bbox_head=dict(stacked_convs=2),
    test_cfg=dict(
        score_thr=0.1,
        nms=dict(_delete_=True, type='fast', iou_threshold=0.5, top_k=200),
        scale='floor_single',
        scale_limits=None,
    ),
)
train_pipeline = [
    dict(type='LoadImageFromFile', backend_args=None, to_float32=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='InclusiveBoxes'),
    dict(
        type='PhotoMetricDistortion',
        brightness_delta=32,
        contrast_range=(0.5, 1.5),
        saturation_range=(0.5, 1.5),
        hue_delta=18,
    ),
    dict(type='Expand', mean=[102.9801, 115.9465, 122.7717], to_rgb=False, ratio_range=(1, 4)),
    dict(type='MinIoURandomCrop', min_ious=(0.1, 0.3, 0.5, 0.7, 0.9), min_crop_size=0.3),
    dict(type='Resize', scale=(576, 576), keep_ratio=False),
    dict(type='InclusiveFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile', backend_args=None),
    dict(type='Resize', scale=(544, 544), keep_ratio=False),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        _delete_=True,
        type='RepeatDataset',
        times=5,
        dataset=dict(
            type='CocoDataset',
            data_root='data/coco/',
            ann_file='annotations/instances_train2017.json',
            data_prefix=dict(img='train2017/'),
            filter_cfg=dict(filter_empty_gt=True, min_size=32),
            pipeline=train_pipeline,
            backend_args=None,
        ),
    ),
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=24)
param_scheduler = [
    dict(type='LinearLR', start_factor=1.0 / 3, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', begin=0, end=24, by_epoch=True, milestones=[20, 23], gamma=0.1),
]
optim_wrapper = dict(paramwise_cfg=None)
auto_scale_lr = dict(base_batch_size=32)
