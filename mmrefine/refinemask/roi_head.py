"""RoI heads that feed a RefineMask head: RoI features, the finest feature map, RoIs and labels.

Paper: RefineMask (CVPR 2021). Origin: ``refine_roi_head.py`` of the authors' repository. Boxes are
stock MMDetection.

Shapes: B images, N RoIs of the batch, S finest mask grid.
"""

from typing import Any

import torch
from mmdet.models.roi_heads import CascadeRoIHead, StandardRoIHead
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox2roi
from mmdet.utils import ConfigType, InstanceList
from mmengine.config import ConfigDict
from torch import Tensor, nn

from mmrefine.masks import GridGroup, MaskGrids, roi_masks

from .base_head import MultiStageMaskHead
from .fitting import (
    fine_map,
    fit_to_pyramid,
    pool_single,
    require_kind,
    require_single,
    unscaled,
)
from .inference import FusedMasks, GridPlan, MaskOptions


class FineMaskMixin:
    """Mask methods of a RoI head whose one mask head also sees a feature map of the whole image.

    ``test_cfg`` takes, beside the usual ``mask_thr_binary``: ``mask_format`` ('dense' or 'rle'),
    ``mask_chunk`` (RoIs processed at once), ``mask_dtype`` ('float32', or 'bfloat16' to run the
    mask branch in reduced precision; masks then differ slightly), ``mask_grids`` (a dict: grids by
    size of the box, see ``GridPlan.of_config``), ``boundary_confidence`` (True adds
    ``boundary_confidences`` to the results) and ``boundary_maps`` (True adds these too).

    Args:
        fine_level: Pyramid level the mask head takes as its fine feature map; 0 (stride 4) is P2.
        **kwargs: See the RoI head this is mixed into.
    """

    with_bbox: bool
    bbox_head: nn.Module
    bbox_roi_extractor: nn.Module
    test_cfg: ConfigDict

    def __init__(self, *args: Any, fine_level: int = 0, **kwargs: Any) -> None:
        self.fine_level = fine_level
        super().__init__(*args, **kwargs)

    def init_mask_head(self, mask_roi_extractor: ConfigType, mask_head: ConfigType) -> None:
        """Build the mask head with the box head's classes and the width and stride of its maps.

        Raises:
            ValueError: The mask head is configured for other ones or is none of RefineMask's, there
                are several, there is no extractor of its own, or a bad value in ``test_cfg``.
        """
        if mask_roi_extractor is None:
            raise ValueError(
                f'{type(self).__name__} needs a mask_roi_extractor: its grid differs from the box '
                "head's"
            )
        owner = type(self).__name__
        require_single(owner, mask_roi_extractor=mask_roi_extractor, mask_head=mask_head)
        require_kind(owner, mask_head, MultiStageMaskHead)
        if self.with_bbox:
            last = (
                self.bbox_head[-1] if isinstance(self.bbox_head, nn.ModuleList) else self.bbox_head
            )
            classes = last.num_classes
            if mask_head.get('num_classes', classes) not in (None, classes):
                raise ValueError(
                    f'mask_head.num_classes={mask_head["num_classes"]} but '
                    f'bbox_head.num_classes={classes}: omit the former, it follows the box head'
                )
            mask_head = dict(mask_head, num_classes=classes)
        self.share_roi_extractor = False
        self.mask_roi_extractor = MODELS.build(mask_roi_extractor)
        self.mask_head = MODELS.build(
            fit_to_pyramid(mask_head, self.mask_roi_extractor, self.fine_level)
        )
        if self.test_cfg is not None:
            self._mask_options(by_size=True)  # tell of bad values now, not after the training

    def _mask_features(self, x: tuple[Tensor, ...], rois: Tensor) -> Tensor:
        return pool_single(self.mask_roi_extractor, x, rois)

    def fine_mask_forward(
        self, x: tuple[Tensor, ...], rois: Tensor, labels: Tensor | None = None
    ) -> dict:
        """Logits of all stages.

        Args:
            x: Feature pyramid.
            rois: Tensor[N, 5] of (image index, x1, y1, x2, y2) in pixels of the network input.
            labels: LongTensor[N]; class 0 if omitted (tracing, counting operations).

        Returns:
            ``stage_logits`` (list), ``semantic_logits`` (Tensor or None) and ``mask_preds`` (finest
            logits).
        """
        if labels is None:
            labels = rois.new_zeros(len(rois), dtype=torch.long)
        stage_logits, semantic_logits = self.mask_head(
            self._mask_features(x, rois), fine_map(x, self.fine_level), rois, labels
        )
        return dict(
            stage_logits=stage_logits, semantic_logits=semantic_logits, mask_preds=stage_logits[-1]
        )

    def fine_mask_loss(
        self,
        x: tuple[Tensor, ...],
        sampling_results: list[SamplingResult],
        batch_gt_instances: InstanceList,
    ) -> dict:
        """Losses of the positive RoIs, predicted with their ground-truth classes; no positives give
        zero losses.

        Raises:
            ValueError: The ground truth has no masks.
        """
        if any('masks' not in gt for gt in batch_gt_instances):
            raise ValueError(
                'ground truth without masks: set with_mask=True in LoadAnnotations of the '
                'training pipeline'
            )
        rois = bbox2roi([result.pos_priors for result in sampling_results])
        labels = torch.cat([result.pos_gt_labels for result in sampling_results])
        results = self.fine_mask_forward(x, rois, labels)
        results.update(
            self.mask_head.loss_and_target(
                results['stage_logits'],
                results['semantic_logits'],
                sampling_results,
                batch_gt_instances,
            )
        )
        return results

    def predict_mask(
        self,
        x: tuple[Tensor, ...],
        batch_img_metas: list[dict],
        results_list: InstanceList,
        rescale: bool = False,
    ) -> InstanceList:
        """Add masks to the detections.

        Args:
            x: Feature pyramid.
            batch_img_metas: Per image.
            results_list: Per image, boxes in pixels of the network input.
            rescale: Return boxes and masks at the original image size.

        Returns:
            Detections with ``masks``: BoolTensor[n, h, w], or a list of n RLEs with
            ``mask_format='rle'``. With ``boundary_confidence``: ``boundary_confidences`` Tensor[n]
            in [0, 1], see ``confidence.boundary_confidence``. With ``boundary_maps``: also
            ``boundary_maps``, a list of n Tensor[S, S] over the boxes, ``stage_agreement`` pixel by
            pixel.

        Raises:
            FloatingPointError: The logits are not finite.
        """
        rois = bbox2roi([results.bboxes for results in results_list])
        labels = torch.cat([results.labels for results in results_list])
        counts = [len(results) for results in results_list]
        groups = self.fused_masks(x, rois, labels)
        probabilities = _grids(groups, [group.logits.sigmoid() for group in groups])
        for results, grids, meta in zip(results_list, probabilities.split(counts), batch_img_metas):
            height, width = meta['ori_shape'] if rescale else meta['img_shape'][:2]
            if rescale:
                results.bboxes = results.bboxes / results.bboxes.new_tensor(
                    meta['scale_factor'] * 2
                )
            results.masks = roi_masks(
                grids,
                results.bboxes,
                (height, width),
                threshold=self.test_cfg.mask_thr_binary,
                mask_format=self.test_cfg.get('mask_format', 'dense'),
            )
        if self._wants_confidence():
            self._add_confidences(groups, results_list)
        return results_list

    def _wants_confidence(self) -> bool:
        return bool(self.test_cfg.get('boundary_confidence') or self.test_cfg.get('boundary_maps'))

    def _add_confidences(self, groups: list[FusedMasks], results_list: InstanceList) -> None:
        counts = [len(results) for results in results_list]
        confidences = groups[0].logits.new_zeros(sum(counts))
        for group in groups:
            confidences[group.places] = group.confidences
        for results, mine in zip(results_list, confidences.split(counts)):
            results.boundary_confidences = mine
        if self.test_cfg.get('boundary_maps'):
            maps = _grids(groups, [group.agreement for group in groups])
            for results, grids in zip(results_list, maps.split(counts)):
                results.boundary_maps = grids.as_list()

    def fused_masks(
        self, x: tuple[Tensor, ...], rois: Tensor, labels: Tensor, by_size: bool = True
    ) -> list[FusedMasks]:
        """Fused masks of any RoIs under the options of ``test_cfg``; the semantic path runs once.

        Args:
            x: Feature pyramid.
            rois: Tensor[N, 5], pixels of the network input.
            labels: LongTensor[N].
            by_size: Follow ``mask_grids``; otherwise all RoIs get the finest stage.

        Returns:
            One group per grid in use, in fp32; at least one, empty without RoIs.

        Raises:
            FloatingPointError: The logits are not finite (NaN in features or weights).
        """
        options = self._mask_options(by_size)
        if len(rois) == 0:
            size = self.mask_head.stage_sizes[-1]
            nothing = rois.new_zeros((0, 1, size, size))
            return [FusedMasks(labels, nothing, nothing, rois.new_zeros(0))]
        feats = self._mask_features(x, rois)
        groups = self.mask_head.fused_masks(feats, x[self.fine_level], rois, labels, options)
        if not all(torch.isfinite(group.logits).all() for group in groups):
            raise FloatingPointError(
                'mask logits are not finite: look for NaN in the checkpoint or in the input image'
            )
        return groups

    def _mask_options(self, by_size: bool) -> MaskOptions:
        grids = self.test_cfg.get('mask_grids') if by_size else None
        return MaskOptions(
            chunk=self.test_cfg.get('mask_chunk'),
            dtype=self.test_cfg.get('mask_dtype', 'float32'),
            plan=None if grids is None else GridPlan.of_config(grids, self.mask_head.stage_sizes),
            confidence=self._wants_confidence(),
        )

    def mask_probabilities(self, x: tuple[Tensor, ...], rois: Tensor, labels: Tensor) -> Tensor:
        """Fused mask probabilities of any RoIs, all on the finest stage's grid.

        Args:
            x, rois, labels: As in ``fused_masks``.

        Returns:
            Tensor[N, 1, S, S] in fp32.
        """
        return self.fused_masks(x, rois, labels, by_size=False)[0].logits.sigmoid()


def _grids(groups: list[FusedMasks], maps: list[Tensor]) -> MaskGrids:
    """One-channel maps of the groups, Tensor[n, 1, S, S] each, in the form that masks leave in."""
    return MaskGrids([GridGroup(group.places, m[:, 0]) for group, m in zip(groups, maps)])


@MODELS.register_module(name=['RefineRoIHead', 'SimpleRefineRoIHead'])
class RefineRoIHead(FineMaskMixin, StandardRoIHead):
    """``StandardRoIHead`` with a RefineMask head; arguments as in both bases."""

    def _bbox_forward(self, x: tuple[Tensor, ...], rois: Tensor) -> dict:
        return super()._bbox_forward(tuple(level.float() for level in x), rois)

    def _mask_forward(self, x: tuple[Tensor, ...], rois: Tensor) -> dict:
        return self.fine_mask_forward(x, rois)

    def mask_loss(
        self,
        x: tuple[Tensor, ...],
        sampling_results: list[SamplingResult],
        bbox_feats: Tensor,
        batch_gt_instances: InstanceList,
    ) -> dict:
        """Losses of the mask branch; box features are not used."""
        return self.fine_mask_loss(x, sampling_results, batch_gt_instances)


@MODELS.register_module()
class CascadeRefineRoIHead(FineMaskMixin, CascadeRoIHead):
    """``CascadeRoIHead`` with one RefineMask head, trained and run on the boxes of the last stage.

    ``mask_head`` and ``mask_roi_extractor`` are single configs, not one per stage.
    """

    def _bbox_forward(self, stage: int, x: tuple[Tensor, ...], rois: Tensor) -> dict:
        return super()._bbox_forward(stage, tuple(level.float() for level in x), rois)

    def _mask_forward(self, stage: int, x: tuple[Tensor, ...], rois: Tensor) -> dict:
        return self.fine_mask_forward(x, rois)

    def mask_loss(
        self,
        stage: int,
        x: tuple[Tensor, ...],
        sampling_results: list[SamplingResult],
        batch_gt_instances: InstanceList,
    ) -> dict:
        """Losses of the mask branch at the last stage, nothing before."""
        if stage < self.num_stages - 1:
            return dict(loss_mask={})
        results = self.fine_mask_loss(x, sampling_results, batch_gt_instances)
        return unscaled(results, self.stage_loss_weights[stage])
