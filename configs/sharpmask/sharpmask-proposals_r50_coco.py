# Writes the proposals of a trained SharpMask for a Fast R-CNN; run with mim test. For the training
# images add --cfg-options test_dataloader.dataset.ann_file=annotations/instances_train2017.json
# test_dataloader.dataset.data_prefix.img=train2017/ test_evaluator.proposals_file=train2017.pkl
_base_ = './sharpmask_r50_300e_coco.py'
test_evaluator = dict(
    _delete_=True,
    type='DumpProposals',
    output_dir='data/coco/proposals/sharpmask/',
    proposals_file='val2017.pkl',
)
