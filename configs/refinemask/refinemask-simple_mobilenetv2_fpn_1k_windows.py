_base_ = './refinemask_mobilenetv2_fpn_1k_windows.py'
model = dict(roi_head=dict(mask_head=dict(type='SimpleRefineMaskHead')))
