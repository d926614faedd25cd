"""Masks at test time: coarse to fine replacement, grids by size of the box, boundary confidence.

Paper: RefineMask (CVPR 2021), section 3.3; training shares ``binarise`` and ``refine``.

Shapes: N RoIs, n of a group, S side of a grid.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmrefine.layers import boundary_map, resize_band

FIRST_FUSED = 1  # the paper's fusion starts at the second stage
FUSION_WIDTH = 1  # half size of the window, in cells of the coarser stage, for replacing logits
# Half size of the confidence band over the side of the grid: one cell of the published first stage.
# Bands of the training loss's width rank masks half as well (nuclei, training pictures).
BAND_SHARE = 1 / 14
PRECISIONS = ('float32', 'bfloat16', 'float16')
CPU_CHUNK, CHUNK = 16, 100  # RoIs at once; 16 stay in a CPU's caches, 1.4 times as fast as 100


def binarise(logits: Tensor) -> Tensor:
    """Mask of logits: probability at least one half."""
    # in fp32: in half precision the sigmoid of small negative logits rounds to one half
    return logits.float().sigmoid() >= 0.5


def refine(coarse: Tensor, fine: Tensor, kept: Tensor | None = None) -> Tensor:
    """Take the finer logits on the boundary of the coarser mask, the upsampled coarser logits
    elsewhere: ``M'_k = up(B_{k-1}) M_k + (1 - up(B_{k-1})) up(M'_{k-1})``.

    Args:
        coarse: Tensor[N, 1, S, S], refined logits of the stage before (M'_{k-1}).
        fine: Tensor[N, 1, S', S'], logits of this stage (M_k).
        kept: Tensor[N, 1, S, S], what to upsample instead of ``coarse``.

    Returns:
        Tensor[N, 1, S', S'] in fp32.
    """
    size = fine.shape[-1]
    boundary = boundary_map(binarise(coarse), FUSION_WIDTH)  # (N, 1, S, S)
    boundary = resize_band(boundary, size)  # (N, 1, S', S')
    kept = (coarse if kept is None else kept).float()
    kept = F.interpolate(kept, size=(size, size), mode='bilinear', align_corners=True)
    return torch.where(boundary, fine.float(), kept)


def refined_logits(stage_logits: Sequence[Tensor]) -> Tensor:
    """Fuse the logits of all stages: Tensor[N, 1, S_i, S_i] each, coarse to fine -> fp32
    Tensor[N, 1, S, S] on the finest grid. The first stage only feeds features."""
    fused = stage_logits[FIRST_FUSED].float()
    for logits in stage_logits[FIRST_FUSED + 1 :]:
        fused = refine(fused, logits)
    return fused


def stage_agreement(stage_logits: Sequence[Tensor]) -> Tensor:
    """Compute pixel by pixel the probability that the last two stages say the same.

    The plain difference of their probabilities ranks masks the wrong way round: on objects that the
    model sees clearly the finer stage is sharp where the coarser is still blurred, so they differ
    more than on objects about which neither stage is sure.

    Logits Tensor[N, 1, S_i, S_i] per stage before fusion -> Tensor[N, 1, S, S] on the last grid:
    ``p q + (1 - p) (1 - q)``, with the last stage's probability p and that of the stage before, q,
    resized with aligned corners. 1: both are sure and agree; 0: both are sure and contradict each
    other; one half where either is undecided.
    """
    if len(stage_logits) < 2:
        raise ValueError(f'agreement needs two stages, got {len(stage_logits)}')
    q, p = (logits.float().sigmoid() for logits in stage_logits[-2:])
    q = F.interpolate(q, size=tuple(p.shape[-2:]), mode='bilinear', align_corners=True)
    return p * q + (1 - p) * (1 - q)


def boundary_confidence(fused: Tensor, agreement: Tensor) -> Tensor:
    """Average the agreement over the boundary band of the masks: Tensor[N, 1, S, S] each ->
    Tensor[N].

    The band is ``boundary_map`` of the final mask, of half width ``S / 14`` on its own grid: one
    cell of the published first stage, as far as stages can differ about the place of an edge. It is
    the same part of the box on every grid. A mask without any pixel, hence without boundary, gets
    0.
    """
    width = max(1, round(fused.shape[-1] * BAND_SHARE))
    band = boundary_map(binarise(fused), width)
    total = torch.where(band, agreement, 0).sum((1, 2, 3))
    return total / band.sum((1, 2, 3)).clamp(min=1)


class FusedMasks(NamedTuple):
    """Masks of the RoIs that share a grid."""

    indices: Tensor  # LongTensor[n], which RoIs, ascending
    logits: Tensor  # (n, 1, S, S) in fp32
    # Tensor[n, 1, S, S], see ``stage_agreement``; None unless asked for
    agreement: Tensor | None = None
    # Tensor[n], see ``boundary_confidence``; None unless asked for
    confidences: Tensor | None = None

    @classmethod
    def of_stages(
        cls, indices: Tensor, stage_logits: Sequence[Tensor], confidence: bool
    ) -> 'FusedMasks':
        """Fuse Tensor[n, 1, S_i, S_i] per stage; ``confidence`` fills the last two fields."""
        logits = refined_logits(stage_logits)
        if not confidence:
            return cls(indices, logits)
        agreement = stage_agreement(stage_logits)
        return cls(indices, logits, agreement, boundary_confidence(logits, agreement))

    @classmethod
    def join(cls, chunks: Sequence['FusedMasks']) -> 'FusedMasks':
        """Concatenate the masks of chunks of RoIs."""
        return cls(*(None if f[0] is None else torch.cat(f) for f in zip(*chunks)))


@dataclass(frozen=True)
class GridPlan:
    """Which grid a RoI gets: the first of ``sizes`` with enough cells for its longer side.

    A box of 20 pixels gains nothing from a 112 grid: it stops at an earlier stage. Boxes larger
    than the finest grid may get one grid more, of twice the size and without weights of its own:
    the last stage is applied again, to its own input on a doubled grid. A stage is convolutional
    and pools its semantic features at the grid it is given, so it then sees a large object as it
    saw, in training, one of half the size.
    """

    # sides of the grids, ascending: the stages from the second on, and perhaps one more
    sizes: tuple[int, ...]
    cells_per_pixel: float  # cells wanted for a pixel of the network input

    @classmethod
    def of_config(cls, config: Mapping, stage_sizes: Sequence[int]) -> 'GridPlan':
        """Read ``test_cfg.mask_grids``: ``cells_per_pixel`` (default 1.0) and ``finest`` (default:
        the last stage's side), the largest grid to use, one of the stages from the second on or
        twice the last."""
        if not isinstance(config, Mapping):
            raise ValueError(
                f'mask_grids must be a dict of cells_per_pixel and finest, got {config!r}'
            )
        unknown = set(config) - {'cells_per_pixel', 'finest'}
        if unknown:
            raise ValueError(
                f'mask_grids takes cells_per_pixel and finest, got {", ".join(sorted(unknown))}'
            )
        density = config.get('cells_per_pixel', 1.0)
        if type(density) not in (int, float) or not 0 < density < float('inf'):
            raise ValueError(
                f'mask_grids.cells_per_pixel must be a number above 0, got {density!r}'
            )
        possible = (*stage_sizes[FIRST_FUSED:], 2 * stage_sizes[-1])
        finest = config.get('finest', stage_sizes[-1])
        if finest not in possible:
            raise ValueError(f'mask_grids.finest must be one of {possible}, got {finest!r}')
        return cls(possible[: possible.index(finest) + 1], float(density))

    def choose(self, rois: Tensor) -> Tensor:
        """Tensor[N, 5] -> LongTensor[N], indices into ``sizes``."""
        side = (rois[:, 3:] - rois[:, 1:3]).amax(1).float()
        sizes = torch.tensor(self.sizes, dtype=torch.float32, device=rois.device)
        return torch.bucketize(side * self.cells_per_pixel, sizes).clamp(max=len(sizes) - 1)


@dataclass(frozen=True)
class InferenceSettings:
    """How to run a mask head at test time."""

    # RoIs processed at once, which bounds the memory; by default 16 on a CPU, 100 elsewhere
    chunk: int | None = None
    # 'float32', or 'bfloat16' or 'float16' to run the convolutions in that precision. Poolings,
    # thresholds and the fusion stay in fp32
    dtype: str = 'float32'
    plan: GridPlan | None = None  # grids by size of the box; None gives every RoI all stages
    confidence: bool = False  # also compute agreement and confidences

    @classmethod
    def of_config(cls, test_cfg: Mapping, stage_sizes: Sequence[int]) -> 'InferenceSettings':
        """Read ``mask_chunk``, ``mask_dtype``, ``mask_grids``, ``boundary_confidence`` and
        ``boundary_maps`` of ``test_cfg.rcnn``.
        """
        chunk, dtype = test_cfg.get('mask_chunk'), test_cfg.get('mask_dtype', 'float32')
        if dtype not in PRECISIONS:
            raise ValueError(f'mask_dtype must be one of {PRECISIONS}, got {dtype!r}')
        if chunk is not None and (type(chunk) is not int or chunk < 1):
            raise ValueError(f'mask_chunk must be a number of RoIs, got {chunk!r}')
        grids = test_cfg.get('mask_grids')
        plan = None if grids is None else GridPlan.of_config(grids, stage_sizes)
        confidence = test_cfg.get('boundary_confidence') or test_cfg.get('boundary_maps')
        return cls(chunk, dtype, plan, bool(confidence))

    def chunk_on(self, device: torch.device) -> int:
        """Number of RoIs to process at once."""
        return self.chunk or (CPU_CHUNK if device.type == 'cpu' else CHUNK)

    def groups(self, rois: Tensor, stages: int) -> list[tuple[Tensor, int]]:
        """Group RoIs by grid: Tensor[N, 5] -> indices LongTensor[n] and number of predictions of
        each grid in use."""
        if self.plan is None:
            return [(torch.arange(len(rois), device=rois.device), stages)]
        choice = self.plan.choose(rois)
        counts = torch.bincount(choice, minlength=len(self.plan.sizes)).tolist()
        indices = choice.argsort(stable=True).split(counts)
        return [(group, i + FIRST_FUSED + 1) for i, group in enumerate(indices) if len(group)]
