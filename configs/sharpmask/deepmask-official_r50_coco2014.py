# For the released Torch7 weights: reproduces the arithmetic behind the published numbers.
_base_ = './deepmask_r50_300e_coco2014.py'
# Parity: every proposal is the window one row up and one column right of the scored one
model = dict(test_cfg=dict(index_quirk=True))
