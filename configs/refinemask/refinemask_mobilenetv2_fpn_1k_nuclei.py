_base_ = ['../_base_/refinemask_mobilenetv2.py', '../_base_/nuclei_crops_instance.py']
model = dict(
    roi_head=dict(bbox_head=dict(num_classes=1)),
    test_cfg=dict(rcnn=dict(max_per_img=400)),
)
