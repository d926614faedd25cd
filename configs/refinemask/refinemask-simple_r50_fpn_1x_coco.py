# Run: coco/r50-refinemask-1x-faster-better.py of zhanggang001/RefineMask.
_base_ = './refinemask_r50_fpn_1x_coco.py'
model = dict(roi_head=dict(mask_head=dict(type='SimpleRefineMaskHead')))
