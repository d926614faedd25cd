# The "faster and better" RefineMask on the detector of mask-rcnn_compact.py.
_base_ = './refinemask_compact.py'
model = dict(roi_head=dict(mask_head=dict(type='SimpleRefineMaskHead')))
