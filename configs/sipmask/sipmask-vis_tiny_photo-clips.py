_base_ = [
    '../_base_/sipmask-vis_compact.py',
    '../_base_/photo_clips.py',
    '../_base_/schedule_tiny_300.py',
]
model = dict(bbox_head=dict(num_classes=40))
default_hooks = dict(
    learnable=dict(type='LearnableDataHook'),
    visualization=dict(type='TrackVisualizationHook', draw=False),
)
visualizer = dict(type='TrackLocalVisualizer')
