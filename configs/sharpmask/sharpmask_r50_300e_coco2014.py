# The paper's data: trained on train2014, evaluated on the first 5000 images of val2014.
_base_ = './sharpmask_r50_300e_coco.py'
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
        ann_file='annotations/instances_val2014.json',
        data_prefix=dict(img='val2014/'),
        indices=5000,
    )
)
test_evaluator = dict(ann_file='data/coco/annotations/instances_val2014.json', max_images=5000)
