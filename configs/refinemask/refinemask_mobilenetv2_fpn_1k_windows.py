# Windows of facades, learned from ImageNet weights.
_base_ = ['../_base_/refinemask_mobilenetv2.py', '../_base_/windows_instance.py']
model = dict(roi_head=dict(bbox_head=dict(num_classes=1)))
