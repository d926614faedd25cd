_base_ = [
    '../_base_/sipmask-vis_compact.py',
    '../_base_/shapes_video.py',
    '../_base_/schedule_tiny.py',
]
model = dict(bbox_head=dict(num_classes=8), tracker=dict(min_score=0.2))
default_hooks = dict(
    learnable=dict(type='LearnableDataHook'),
    visualization=dict(type='TrackVisualizationHook', draw=False),
)
visualizer = dict(type='TrackLocalVisualizer')
