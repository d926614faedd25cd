# Run: `th train.lua -dm DEEPMASK`, evaluated by `th evalPerImage.lua -np 1000` of
# facebookresearch/deepmask: train2014, and the 5000 images of val2014 with the lowest ids.
_base_ = './sharpmask_r50_300e_coco.py'
model = dict(test_cfg=dict(max_per_img=1000))
train_dataloader = dict(
    dataset=dict(
        dataset=dict(
            ann_file='annotations/instances_train2014.json', data_prefix=dict(img='train2014/')
        )
    )
)
val_dataloader = dict(
    dataset=dict(
        dataset=dict(
            ann_file='annotations/instances_val2014.json', data_prefix=dict(img='val2014/')
        )
    )
)
test_dataloader = dict(
    dataset=dict(
        type='CocoFirstImagesDataset',
        num_images=5000,
        ann_file='annotations/instances_val2014.json',
        data_prefix=dict(img='val2014/'),
    )
)
test_evaluator = dict(ann_file='data/coco/annotations/instances_val2014.json', max_images=5000)
