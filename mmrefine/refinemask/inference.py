"""From RoIs to fused masks: in chunks, in any precision, on a grid that fits the size of the box.

A box of 20 pixels gains nothing from a 112 grid. With ``GridPlan`` every RoI stops at the first
stage whose grid is fine enough for it, and boxes larger than the finest grid may get one grid more,
of twice the size. That one needs no weights of its own: the last stage is applied again, to its own
input on a doubled grid. A stage is convolutional and pools its semantic features at the grid it
is given, so it then sees a large object as it saw, in training, one of half the size.

Shapes: N RoIs, S side of a grid, B images.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from .confidence import boundary_confidence, stage_agreement
from .refinement import FIRST_FUSED, refined_logits

PRECISIONS = ('float32', 'bfloat16', 'float16')


class FusedMasks(NamedTuple):
    """Masks of the RoIs that share a grid.

    Attributes:
        places: LongTensor[n], which RoIs, ascending.
        logits: Tensor[n, 1, S, S] in fp32.
        agreement: Tensor[n, 1, S, S], see ``stage_agreement``; None unless asked for.
        confidences: Tensor[n], see ``boundary_confidence``; None unless asked for.
    """

    places: Tensor
    logits: Tensor
    agreement: Tensor | None = None
    confidences: Tensor | None = None


@dataclass(frozen=True)
class GridPlan:
    """Which grid a RoI gets: the first of ``sizes`` with enough cells for its longer side.

    Attributes:
        sizes: Sides of the grids, ascending: the stages from the second on, and perhaps one more.
        cells_per_pixel: Cells wanted for a pixel of the network input.
    """

    sizes: tuple[int, ...]
    cells_per_pixel: float

    @classmethod
    def of_config(cls, config: Mapping, stage_sizes: Sequence[int]) -> 'GridPlan':
        """Read ``test_cfg.mask_grids``.

        Args:
            config: ``cells_per_pixel`` (default 1.0) and ``finest`` (default: the last stage's
                side): the largest grid to use, one of the stages from the second on or twice the
                last.
            stage_sizes: Sides of the head's grids.

        Raises:
            ValueError: Unknown key or impossible value.
        """
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
class MaskOptions:
    """How to run a mask head for inference.

    Attributes:
        chunk: RoIs processed at once, which bounds the memory; by default 16 on a CPU, where few
            RoIs stay in its caches (1.4 times as fast as 100 at once), and 100 elsewhere.
        dtype: 'float32', or 'bfloat16' or 'float16' to run the convolutions in that precision,
            channels last. Poolings, thresholds and the fusion stay in fp32.
        plan: Grids by size of the box; None gives every RoI all stages.
        confidence: Also compute agreement and confidences.
    """

    chunk: int | None = None
    dtype: str = 'float32'
    plan: GridPlan | None = None
    confidence: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in PRECISIONS:
            raise ValueError(f'mask_dtype must be one of {PRECISIONS}, got {self.dtype!r}')
        if self.chunk is not None and (type(self.chunk) is not int or self.chunk < 1):
            raise ValueError(f'mask_chunk must be a number of RoIs, got {self.chunk!r}')


class MaskHead(Protocol):
    """What is needed of a head; see ``MultiStageMaskHead``."""

    stage_sizes: tuple[int, ...]

    def semantic_path(self, fine_feat: Tensor, stages: int | None = None) -> NamedTuple: ...

    def refine(
        self,
        roi_feats: Tensor,
        semantic: NamedTuple,
        rois: Tensor,
        labels: Tensor,
        predictions: int | None = None,
    ) -> list[Tensor]: ...


def fuse_masks(
    head: MaskHead,
    roi_feats: Tensor,
    fine_feat: Tensor,
    rois: Tensor,
    labels: Tensor,
    options: MaskOptions,
) -> list[FusedMasks]:
    """Predict and fuse all stages that each RoI needs; the semantic path runs once.

    Args:
        head: A RefineMask head.
        roi_feats, fine_feat, rois, labels: As in ``MultiStageMaskHead.forward``.
        options: See there.

    Returns:
        One group per grid in use; together they hold every RoI once.
    """
    precision: AbstractContextManager = nullcontext()
    form: dict = {}
    if rois.device.type == 'cpu':
        # the dilated convolutions of the stages are 1.14 times as fast as channels first, the large
        # ones of the semantic path up to 1.18 times
        form = dict(memory_format=torch.channels_last)
    if options.dtype != 'float32':
        form = dict(dtype=getattr(torch, options.dtype), memory_format=torch.channels_last)
        precision = torch.autocast(rois.device.type, dtype=form['dtype'])
    if form:  # precision and order of the large map change in one copy
        fine_feat = fine_feat.to(**form)
    chunk = options.chunk or (16 if rois.device.type == 'cpu' else 100)
    stages = len(head.stage_sizes)
    groups = _groups(rois, options.plan, stages)
    needed = min(max(predictions for _, predictions in groups), stages) - 1
    fused = []
    with precision:
        semantic = head.semantic_path(fine_feat, needed)
        for places, predictions in groups:
            whole = len(places) == len(rois)
            own = [x if whole else x[places] for x in (roi_feats, rois, labels)]
            own[0] = own[0].to(**form) if form else own[0]
            parts = []
            for place, feats, boxes, classes in zip(*(x.split(chunk) for x in (places, *own))):
                stage_logits = head.refine(feats, semantic, boxes, classes, predictions)
                parts.append(_fuse(place, stage_logits, options.confidence))
            fused.append(_join(parts))
    return fused


def _groups(rois: Tensor, plan: GridPlan | None, stages: int) -> list[tuple[Tensor, int]]:
    """Places of the RoIs of each grid, and how many predictions they take."""
    if plan is None or len(rois) == 0:
        return [(torch.arange(len(rois), device=rois.device), stages)]
    choice = plan.choose(rois)
    counts = torch.bincount(choice, minlength=len(plan.sizes)).tolist()
    places = choice.argsort(stable=True).split(counts)
    return [(p, i + FIRST_FUSED + 1) for i, p in enumerate(places) if len(p)]


def _fuse(places: Tensor, stage_logits: list[Tensor], confidence: bool) -> FusedMasks:
    logits = refined_logits(stage_logits)
    if not confidence:
        return FusedMasks(places, logits)
    agreement = stage_agreement(stage_logits)
    return FusedMasks(places, logits, agreement, boundary_confidence(logits, agreement))


def _join(parts: list[FusedMasks]) -> FusedMasks:
    return FusedMasks(*(None if f[0] is None else torch.cat(f) for f in zip(*parts)))
