# Tells how sure each mask is of its boundary, and draws it; weights of refinemask_tiny_shapes.py.
_base_ = './refinemask_tiny_shapes.py'
model = dict(test_cfg=dict(rcnn=dict(boundary_confidence=True, boundary_maps=True)))
visualizer = dict(type='RLELocalVisualizer')
