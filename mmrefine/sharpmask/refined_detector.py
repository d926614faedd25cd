"""SharpMask: DeepMask proposals with top-down refinement.

Paper:    https://arxiv.org/abs/1603.08695
Origin:   facebookresearch/deepmask (SharpMask.lua), BSD with a patent grant
Changes:  as in ``detector``; horizontal branches run once per level, the rest on selected windows.

Shapes:   B images or patches, N windows, D code channels, S mask side.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.utils import ConfigType
from torch import Tensor

from .detector import DeepMask
from .trunk import STRIDE
from .windows import Level


@MODELS.register_module()
class SharpMask(DeepMask):
    """DeepMask with top-down refinement of the selected windows.

    Args:
        refine_head: ``TopDownRefineHead``.
        freeze_coarse: Train the refinement only, as published: trunk and DeepMask head keep their
            weights, their running statistics and their dropout off.
        coarse: Return the DeepMask masks of the same weights instead of the refined ones.
        **kwargs: As ``DeepMask``.
    """

    def __init__(
        self,
        *args: Any,
        refine_head: ConfigType,
        freeze_coarse: bool = True,
        coarse: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.refine_head = MODELS.build(refine_head)
        self.freeze_coarse = freeze_coarse
        self.coarse = coarse
        # What gives no masks has no loss, of which a training on several GPUs complains.
        (self.refine_head if coarse else self.mask_head.mask_fc).requires_grad_(False)
        if freeze_coarse:
            self.skip_idle = False  # one branch is left, which every batch trains
            for module in (self.backbone, self.mask_head):
                module.requires_grad_(False)

    def train(self, mode: bool = True) -> 'SharpMask':
        """Set the mode; frozen parts stay in evaluation mode."""
        super().train(mode)
        if self.freeze_coarse:
            for module in (self.backbone, self.mask_head):
                module.eval()
        return self

    def patch_codes(self, batch_inputs: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """As in DeepMask; without a graph when the coarse part is frozen."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze_coarse):
            return super().patch_codes(batch_inputs)

    def patch_masks(self, features: Sequence[Tensor], codes: Tensor) -> Tensor:
        """Refined mask logits Tensor[B, S, S] of patches."""
        if self.coarse:
            return super().patch_masks(features, codes)
        return self.refine_head.forward_patch(features[::-1], codes.flatten(1), self.context)

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict[str, Tensor]:
        """As in DeepMask; a frozen score branch contributes no loss."""
        losses = super().loss(batch_inputs, batch_data_samples)
        if self.freeze_coarse:
            losses['score_monitor'] = losses.pop('loss_score').detach()
        return losses

    def level_maps(self, image: Tensor) -> list[Tensor]:
        """Reduced stride-16 map, then the maps of the horizontal branches, coarsest first."""
        if self.coarse:
            return super().level_maps(image)
        stages, horizontals = self.refine_head.stages, []

        def read(feature: Tensor) -> None:
            # The finest map comes first and belongs to the last stage.
            horizontals.insert(0, stages[-1 - len(horizontals)].horizontal(feature))

        last = self.visit_features(image, read)  # (1, C, h, w)
        return [self.mask_head.reduce(last), *horizontals]

    def level_strides(self) -> list[int]:
        """As in DeepMask; the horizontal maps are ever finer by two."""
        count = 0 if self.coarse else len(self.refine_head.stages)
        return [STRIDE, *(STRIDE >> i for i in range(count))]

    def level_radius(self) -> int | None:
        """As in DeepMask; every 3x3 convolution of a horizontal branch adds a cell."""
        radius = super().level_radius()
        depth = 0 if self.coarse else max(len(s.horizontal) for s in self.refine_head.stages)
        return None if radius is None else radius + depth * STRIDE

    def window_masks(self, level: Level, codes: Tensor, cells: Tensor) -> Tensor:
        """Refined (or coarse) mask logits Tensor[N, S, S] of windows of one level."""
        if self.coarse:
            return super().window_masks(level, codes, cells)
        return self.refine_head.forward_windows(level.horizontals, codes, cells)
