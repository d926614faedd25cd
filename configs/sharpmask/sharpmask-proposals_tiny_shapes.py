# Writes the proposals of a tiny SharpMask for fast-rcnn_sharpmask-proposals_tiny_shapes.py.
_base_ = './sharpmask_tiny_shapes.py'
model = dict(test_cfg=dict(max_per_img=300))
test_evaluator = dict(
    _delete_=True,
    type='DumpProposals',
    output_dir=_base_.data_root + 'proposals',
    proposals_file='val.pkl',
)
