# One coefficient vector per box: what the spatial preservation of sipmask_tiny_shapes adds to.
_base_ = './sipmask_tiny_shapes.py'
model = dict(bbox_head=dict(num_cells=1))
