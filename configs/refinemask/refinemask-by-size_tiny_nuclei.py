# A 112 grid for boxes of more than 56 pixels only; weights of refinemask_tiny_nuclei.py.
_base_ = './refinemask_tiny_nuclei.py'
model = dict(test_cfg=dict(rcnn=dict(mask_grids=dict(cells_per_pixel=1.0))))
