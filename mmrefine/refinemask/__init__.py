"""RefineMask (CVPR 2021): multi-stage RoI masks, refined with fine features near the boundary.

Read in this order: ``roi_head`` feeds ``mask_head``, which is made of ``stages``; ``losses`` and
``targets`` train it, ``inference`` turns its stages into masks.
"""
