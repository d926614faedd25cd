_base_ = ['../_base_/refinemask_mobilenetv2.py', '../_base_/facades_instance.py']
model = dict(roi_head=dict(bbox_head=dict(num_classes=10)))
