# SharpMaskZoom2 on val2014; the exponents of the added scales are inferred, see docs/fidelity.md.
_base_ = './sharpmask-official_r50_coco2014.py'
model = dict(test_cfg=dict(log2_scales=(-2.5, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5)))
