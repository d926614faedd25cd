_base_ = [
    '../_base_/sharpmask-roi_compact.py',
    '../_base_/coco_mini_instance.py',
    '../_base_/schedule_tiny.py',
]
default_hooks = dict(learnable=dict(type='LearnableDataHook'))
