"""Boundary-aware refinement: a finer stage may change the mask only near its boundary.

Paper: RefineMask (CVPR 2021), section 3.3. Training and inference share these functions.

Shapes: N RoIs, S side of a stage's grid.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmrefine.layers import boundary_map, resize_band

FIRST_FUSED = 1  # the paper's fusion starts at the second stage
FUSION_WIDTH = 1  # half size of the window, in pixels of the coarser stage, for replacing logits


def binarise(logits: Tensor) -> Tensor:
    """Mask of logits: probability at least one half."""
    return logits.float().sigmoid() >= 0.5


def refine(coarse: Tensor, fine: Tensor, kept: Tensor | None = None) -> Tensor:
    """Take the finer logits on the boundary of the coarser mask, the upsampled coarser logits
    elsewhere.

    Args:
        coarse: Tensor[N, 1, S, S], refined logits of the stage before.
        fine: Tensor[N, 1, S', S'], logits of this stage.
        kept: Tensor[N, 1, S, S], what to upsample instead of ``coarse``.

    Returns:
        Tensor[N, 1, S', S'] in fp32.
    """
    size = fine.shape[-1]
    boundary = resize_band(boundary_map(binarise(coarse), FUSION_WIDTH), size)
    kept = (coarse if kept is None else kept).float()
    kept = F.interpolate(kept, size=(size, size), mode='bilinear', align_corners=True)
    return torch.where(boundary, fine.float(), kept)


def refined_logits(stage_logits: Sequence[Tensor], first: int = FIRST_FUSED) -> Tensor:
    """Fuse the logits of all stages for inference.

    Args:
        stage_logits: Tensor[N, 1, S_i, S_i] per stage, coarse to fine.
        first: Stage that starts the fusion; earlier ones only feed features. The paper starts at
            the second.

    Returns:
        Tensor[N, 1, S, S] in fp32 on the finest grid.
    """
    first = min(first, len(stage_logits) - 1)
    fused = stage_logits[first].float()
    for logits in stage_logits[first + 1 :]:
        fused = refine(fused, logits)
    return fused
