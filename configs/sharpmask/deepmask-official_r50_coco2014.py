# Run: the evaluation of the released deepmask/model.t7, `th evalPerImage.lua -np 1000`.
_base_ = './deepmask_r50_300e_coco2014.py'
# Parity: every proposal is the window one row up and one column right of the scored one
model = dict(test_cfg=dict(index_quirk=True))
