# No run of the authors' repository, which has the 2019 set only: the same recipe on the 2021 set.
_base_ = './sipmask-vis_r50-caffe_fpn_gn_1x_youtubevis2019.py'
data_root = 'data/youtube_vis_2021/'
train_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        dataset_version='2021',
        ann_file='annotations/youtube_vis_2021_train.json',
    )
)
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        dataset_version='2021',
        ann_file='annotations/youtube_vis_2021_valid.json',
    )
)
test_dataloader = val_dataloader
val_evaluator = dict(outfile_prefix='work_dirs/youtube_vis_2021_valid')
test_evaluator = val_evaluator
