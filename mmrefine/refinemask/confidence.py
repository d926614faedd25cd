"""How sure a multi-stage mask is of its boundary: what two successive stages say about it.

The plain difference of their probabilities says the opposite of what one wants: on objects that the
model sees clearly the finer stage is sharp where the coarser is still blurred, so they differ more
than on objects at which both only shrug. Agreement is therefore counted as the chance that both
say the same, which is one half where either has no opinion.

Shapes: N RoIs, S side of a stage's grid.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmrefine.layers import boundary_map

from .refinement import binarise

# Half size of the band's window over the side of the grid: one cell of the published first stage.
# Bands of the training loss's width rank masks half as well (nuclei, training pictures).
BAND_SHARE = 1 / 14


def stage_agreement(stage_logits: Sequence[Tensor]) -> Tensor:
    """Tell pixel by pixel how much the last stage agrees with the one before.

    Args:
        stage_logits: Tensor[N, 1, S_i, S_i] per stage before fusion, coarse to fine; at least two.

    Returns:
        Tensor[N, 1, S, S] on the last grid, in [0, 1]: ``p q + (1 - p) (1 - q)``, the probability
        that two draws agree, one with the last stage's probability p and one with that of the stage
        before, q, resized with aligned corners. 1: both are sure and agree; 0: both are sure and
        contradict each other.
    """
    if len(stage_logits) < 2:
        raise ValueError(f'agreement needs two stages, got {len(stage_logits)}')
    before, last = (logits.float().sigmoid() for logits in stage_logits[-2:])
    size = tuple(last.shape[-2:])
    before = F.interpolate(before, size=size, mode='bilinear', align_corners=True)
    return last * before + (1 - last) * (1 - before)


def boundary_confidence(fused: Tensor, agreement: Tensor) -> Tensor:
    """Average the agreement over the boundary band of the masks.

    The band is ``boundary_map`` of the final mask (probability at least one half), of half width
    ``S / 14`` on its own grid: one cell of the published first stage, as far as stages can differ
    about the place of an edge. It is the same part of the box on every grid.

    Args:
        fused: Tensor[N, 1, S, S], final logits.
        agreement: Tensor[N, 1, S, S], from ``stage_agreement``.

    Returns:
        Tensor[N] in [0, 1]; 0 for a mask without any pixel, hence without boundary.
    """
    width = max(1, round(fused.shape[-1] * BAND_SHARE))
    band = boundary_map(binarise(fused), width)
    total = torch.where(band, agreement, 0).sum((1, 2, 3))
    return total / band.sum((1, 2, 3)).clamp(min=1)
