"""Stock RoI heads around ``SharpMaskHead``: classes, labels and finite values are checked, and the
logits of a RoI's own class are computed alone.

Shapes:   N RoIs, S output side.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.roi_heads import (
    CascadeRoIHead,
    DynamicRoIHead,
    HybridTaskCascadeRoIHead,
    StandardRoIHead,
)
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox2roi
from mmdet.utils import ConfigType, InstanceList
from torch import Tensor, nn

from mmrefine.layers import FiniteRoIHead

from .roi_mask_head import SharpMaskHead


def _own_class_loss(
    extractor: nn.Module,
    head: SharpMaskHead,
    x: Sequence[Tensor],
    sampling_results: list[SamplingResult],
    batch_gt_instances: InstanceList,
    train_cfg: ConfigType,
) -> dict[str, Any]:
    """Mask loss of the positive RoIs, from the logits of their own classes alone."""
    rois = bbox2roi([result.pos_priors for result in sampling_results])  # (N, 5)
    labels = torch.cat([result.pos_gt_labels for result in sampling_results])
    logits = head(extractor(x[: extractor.num_inputs], rois), labels=labels)  # (N, 1, S, S)
    loss = head.loss_and_target(logits, sampling_results, batch_gt_instances, train_cfg)
    return dict(mask_preds=logits) | loss


def _own_class_logits(
    extractor: nn.Module, head: SharpMaskHead, x: Sequence[Tensor], results_list: InstanceList
) -> Tensor:
    """Logits Tensor[N, 1, S, S] of the detected classes, all images in one batch."""
    rois = bbox2roi([results.bboxes for results in results_list])  # (N, 5)
    labels = torch.cat([results.labels for results in results_list])
    return head(extractor(x[: extractor.num_inputs], rois), labels=labels)


class CheckedRoIHead(FiniteRoIHead):
    """What goes before a stock RoI head with ``SharpMaskHead``: both heads have the same
    classes."""

    def init_mask_head(self, mask_roi_extractor: ConfigType, mask_head: ConfigType) -> None:
        """Build extractor and head; ``num_classes`` follows the box head.

        Raises:
            ValueError: The mask head is configured for other classes.
        """
        several = isinstance(mask_head, (list, tuple))
        heads = [self.with_classes(head) for head in (mask_head if several else [mask_head])]
        super().init_mask_head(mask_roi_extractor, heads if several else heads[0])  # type: ignore[misc]


@MODELS.register_module()
class SharpMaskRoIHead(CheckedRoIHead, StandardRoIHead):
    """``StandardRoIHead`` that tells ``SharpMaskHead`` the class of each RoI.

    Same masks and losses as in the stock RoI head, without the logits of the other classes: with
    LVIS's 1,203 classes they are the largest tensor of the model.
    """

    def mask_loss(
        self,
        x: Sequence[Tensor],
        sampling_results: list[SamplingResult],
        bbox_feats: Tensor,
        batch_gt_instances: InstanceList,
    ) -> dict[str, Any]:
        """Mask loss of the positive RoIs; arguments as in the stock RoI head."""
        parts = self.mask_roi_extractor, self.mask_head
        return _own_class_loss(*parts, x, sampling_results, batch_gt_instances, self.train_cfg)

    def predict_mask(
        self,
        x: Sequence[Tensor],
        batch_img_metas: list[dict],
        results_list: InstanceList,
        rescale: bool = False,
    ) -> InstanceList:
        """Add masks to the detections; arguments as in the stock RoI head."""
        logits = _own_class_logits(self.mask_roi_extractor, self.mask_head, x, results_list)
        masks = logits.split([len(results) for results in results_list])
        return self.mask_head.predict_by_feat(
            masks, results_list, batch_img_metas, self.test_cfg, rescale
        )


@MODELS.register_module()
class CascadeSharpMaskRoIHead(CheckedRoIHead, CascadeRoIHead):
    """``CascadeRoIHead`` that tells its ``SharpMaskHead``s the class of each RoI, see
    ``SharpMaskRoIHead``."""

    def mask_loss(
        self,
        stage: int,
        x: Sequence[Tensor],
        sampling_results: list[SamplingResult],
        batch_gt_instances: InstanceList,
    ) -> dict[str, Any]:
        """Mask loss of one stage; arguments as in the stock RoI head."""
        parts = self.mask_roi_extractor[stage], self.mask_head[stage]
        config = self.train_cfg[stage]
        return _own_class_loss(*parts, x, sampling_results, batch_gt_instances, config)

    def predict_mask(
        self,
        x: Sequence[Tensor],
        batch_img_metas: list[dict],
        results_list: InstanceList,
        rescale: bool = False,
    ) -> InstanceList:
        """Add masks to the detections; probabilities are averaged over the stages."""
        stages = zip(self.mask_roi_extractor, self.mask_head)
        probs = [_own_class_logits(*stage, x, results_list).sigmoid() for stage in stages]
        masks = torch.stack(probs).mean(0).split([len(results) for results in results_list])
        return self.mask_head[-1].predict_by_feat(
            masks, results_list, batch_img_metas, self.test_cfg, rescale, activate_map=True
        )


@MODELS.register_module()
class DynamicSharpMaskRoIHead(SharpMaskRoIHead, DynamicRoIHead):
    """``DynamicRoIHead`` that tells ``SharpMaskHead`` the class of each RoI."""


@MODELS.register_module()
class HTCSharpMaskRoIHead(CheckedRoIHead, HybridTaskCascadeRoIHead):
    """``HybridTaskCascadeRoIHead`` with ``SharpMaskHead``s, which compute the logits of all
    classes in it.

    They take pooled maps alone: ``mask_info_flow`` and the masks' part of ``semantic_fusion``,
    which MMDetection's configs turn on, are off.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        fusion = set(kwargs.get('semantic_fusion', ('bbox',))) - {'mask'}
        kwargs.update(mask_info_flow=False, semantic_fusion=tuple(fusion))
        super().__init__(*args, **kwargs)
