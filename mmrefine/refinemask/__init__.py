"""RefineMask (CVPR 2021): multi-stage RoI masks, refined with fine features near the boundary.

Read in this order: ``roi_head`` feeds ``mask_head``, whose ``stages`` use ``fusion``; ``targets``
and ``losses`` train it, ``refinement`` fuses the stages.
"""
