"""Multi-stage mask losses restricted to boundaries in the late stages.

Paper: RefineMask (CVPR 2021), section 3.3. Origin: ``cross_entropy_loss.py`` of the authors'
repository.

Shapes: N RoIs of the whole batch, S_i side of stage i.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from torch import Tensor, nn

from mmrefine.layers import boundary_map, resize_band

from .inference import binarise, refine


def training_regions(
    stage_logits: Sequence[Tensor],
    stage_targets: Sequence[Tensor],
    boundary_width: int = 2,
    start_stage: int = 1,
    upsample_raw: bool = False,
) -> list[Tensor | None]:
    """Pixels that enter the loss of each stage: BoolTensor[N, 1, S_i, S_i], or None for all.

    Up to ``start_stage`` every pixel counts. Later, a pixel counts if it lies in the boundary band
    of the mask refined so far or of its target. The union is taken on the grid of the stage before,
    then resized.

    Logits and bool targets are Tensor[N, 1, S_i, S_i] per stage; the rest see
    ``BARCrossEntropyLoss``.
    """
    regions: list[Tensor | None] = []
    refined = stage_logits[0].detach()
    for i, logits in enumerate(stage_logits):
        logits = logits.detach()
        if i <= start_stage:
            regions.append(None)
            refined = logits
            continue
        # R_k = up(B_P or B_G), boundaries of prediction and ground truth of the stage before
        predicted = boundary_map(binarise(refined), boundary_width)  # (N, 1, S_{i-1}, S_{i-1})
        wanted = boundary_map(stage_targets[i - 1], boundary_width)
        regions.append(resize_band(predicted | wanted, logits.shape[-1]))  # (N, 1, S_i, S_i)
        # Parity: the original carries the unrefined logits of the stage before into the state
        kept = stage_logits[i - 1].detach() if upsample_raw else refined
        refined = refine(refined, logits, kept)
    return regions


def region_loss(logits: Tensor, target: Tensor, region: Tensor | None) -> Tensor:
    """Mean binary cross entropy over a region of the whole batch; 0, with gradients, where it is
    empty.

    Logits, targets and region (None for every pixel) are Tensor[N, 1, S, S].
    """
    error = F.binary_cross_entropy_with_logits(logits.float(), target.float(), reduction='none')
    # sums, not means and boolean indices: defined, differentiable and of one shape without pixels
    if region is None:
        return error.sum() / max(error.numel(), 1)
    return torch.where(region, error, 0.0).sum() / region.sum().clamp(min=1)


@MODELS.register_module()
class BARCrossEntropyLoss(nn.Module):
    """Binary cross entropy per stage, near boundaries only in the stages after ``start_stage``.

    Args:
        stage_instance_loss_weight: Weight of each stage, coarse to fine; the published ones.
        boundary_width: Half size of the band's window, in pixels of the stage before.
        start_stage: Last stage supervised everywhere.
        loss_weight: Factor on the sum over the stages.
        upsample_raw: Parity: outside the boundary, carry on the raw rather than the refined logits
            of the stage before. It matters only with more than two stages after ``start_stage``,
            and inference always refines.
    """

    def __init__(
        self,
        stage_instance_loss_weight: Sequence[float] = (0.25, 0.5, 0.75, 1.0),
        boundary_width: int = 2,
        start_stage: int = 1,
        loss_weight: float = 1.0,
        upsample_raw: bool = False,
    ) -> None:
        super().__init__()
        # the band of the first stage would need a stage before it
        if boundary_width < 1 or start_stage < 0:
            raise ValueError(
                f'boundary_width must be >= 1 and start_stage >= 0, got {boundary_width} and '
                f'{start_stage}'
            )
        self.stage_weights = tuple(stage_instance_loss_weight)
        self.boundary_width = boundary_width
        self.start_stage = start_stage
        self.loss_weight = loss_weight
        self.upsample_raw = upsample_raw

    def stage_losses(
        self, stage_logits: Sequence[Tensor], stage_targets: Sequence[Tensor]
    ) -> list[Tensor]:
        """Unweighted loss of each stage; arguments as in ``forward``."""
        if not len(stage_logits) == len(stage_targets) == len(self.stage_weights):
            raise ValueError(
                f'{len(stage_logits)} stages of logits, {len(stage_targets)} of targets, but '
                f'stage_instance_loss_weight has {len(self.stage_weights)} entries: give one '
                'weight per stage'
            )
        rule = self.boundary_width, self.start_stage, self.upsample_raw
        regions = training_regions(stage_logits, stage_targets, *rule)
        return [region_loss(*terms) for terms in zip(stage_logits, stage_targets, regions)]

    def forward(self, stage_logits: Sequence[Tensor], stage_targets: Sequence[Tensor]) -> Tensor:
        """Weighted sum over the stages, of logits and bool targets Tensor[N, 1, S_i, S_i], coarse
        to fine."""
        terms = self.stage_losses(stage_logits, stage_targets)
        return self.loss_weight * sum(w * term for w, term in zip(self.stage_weights, terms))


@MODELS.register_module()
class RefineCrossEntropyLoss(BARCrossEntropyLoss):
    """``BARCrossEntropyLoss`` with a term for the semantic foreground map.

    Args:
        semantic_loss_weight: Weight of the semantic term.
    """

    def __init__(self, *args: Any, semantic_loss_weight: float = 1.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.semantic_loss_weight = semantic_loss_weight

    def semantic_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Weighted binary cross entropy of the foreground map Tensor[B, 1, H, W], padding
        included."""
        return self.semantic_loss_weight * region_loss(logits, target, None)


def build_loss(
    config: dict | None, default: type[BARCrossEntropyLoss], weights: Sequence[float]
) -> nn.Module:
    """Build the loss of a head, whose missing settings are ``default`` and its stage ``weights``.

    Raises:
        ValueError: It has a semantic term and the default has none, or the other way round.
    """
    config = dict(type=default) | (config or {})
    loss = MODELS.build(config)
    if isinstance(loss, BARCrossEntropyLoss) and 'stage_instance_loss_weight' not in config:
        loss.stage_weights = tuple(weights)
    if hasattr(loss, 'semantic_loss') != hasattr(default, 'semantic_loss'):
        raise ValueError(
            f'loss_cfg.type={type(loss).__name__} does not fit the head, whose loss is '
            f'{default.__name__}: take that one, for RefineMaskHead without the semantic term with '
            'semantic_loss_weight=0'
        )
    return loss
