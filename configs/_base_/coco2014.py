# COCO as of 2014, for loaders of 2017's: train2014, and the 5000 images of val2014 with the lowest ids to test.
train2014 = dict(
    ann_file='annotations/instances_train2014.json', data_prefix=dict(img='train2014/')
)
val2014 = dict(ann_file='annotations/instances_val2014.json', data_prefix=dict(img='val2014/'))
first2014 = dict(type='CocoFirstImagesDataset', num_images=5000, **val2014)
first2014_evaluator = dict(ann_file='data/coco/annotations/instances_val2014.json', max_images=5000)
