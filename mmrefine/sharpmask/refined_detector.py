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
from torch import Tensor, nn

from .detector import DeepMask
from .pyramid import Level


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
        if freeze_coarse:
            for module in self._frozen():
                module.requires_grad_(False)

    def _frozen(self) -> tuple[nn.Module, nn.Module]:
        return self.backbone, self.mask_head

    def train(self, mode: bool = True) -> 'SharpMask':
        """Set the mode; frozen parts stay in evaluation mode."""
        super().train(mode)
        if self.freeze_coarse:
            for module in self._frozen():
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

    def _level_maps(self, image: Tensor) -> list[Tensor]:
        features = self.extract_feat(image)
        reduced = self.mask_head.reduce(features[-1])
        horizontals = [] if self.coarse else self.refine_head.horizontal_maps(features[::-1])
        return [reduced, *horizontals]

    def _branches(self) -> list[tuple[int, list[tuple[nn.Module, bool]]]]:
        branches = super()._branches()
        for i, stage in enumerate([] if self.coarse else self.refine_head.stages):
            last = len(stage.horizontal) - 1
            convs = [(conv, j < last) for j, conv in enumerate(stage.horizontal)]
            branches.append((-1 - i, convs))
        return branches

    def window_masks(self, level: Level, codes: Tensor, cells: Tensor) -> Tensor:
        """Refined (or coarse) mask logits Tensor[N, S, S] of windows of one level."""
        if self.coarse:
            return super().window_masks(level, codes, cells)
        return self.refine_head.forward_windows(
            level.horizontals, codes, cells, torch.zeros_like(cells[:, 0])
        )
