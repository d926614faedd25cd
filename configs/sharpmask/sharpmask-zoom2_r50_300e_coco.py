# SharpMaskZoom2 on COCO 2017; the exponents of the added scales are inferred, see docs/fidelity.md.
_base_ = './sharpmask_r50_300e_coco.py'
model = dict(test_cfg=dict(log2_scales=(-2.5, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5)))
