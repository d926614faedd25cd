_base_ = './sharpmask-roi_r50_fpn_1x_coco.py'
model = dict(roi_head=dict(mask_head=dict(class_agnostic=True)))
