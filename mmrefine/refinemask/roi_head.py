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

from mmrefine.layers import FiniteRoIHead, poolable, require_finite
from mmrefine.masks import GridGroup, MaskGrids, check_format, output_size, roi_masks, scale_factors

from .inference import FusedMasks, InferenceSettings
from .mask_head import MultiStageMaskHead


class FineMaskMixin(FiniteRoIHead):
    """Mask methods of a RoI head whose one mask head also sees a feature map of the whole image.

    ``test_cfg`` takes, beside the usual ``mask_thr_binary`` (default 0.5): ``mask_format`` ('dense'
    or 'rle'), ``mask_chunk`` (RoIs processed at once), ``mask_dtype`` ('float32', or 'bfloat16' to
    run the mask branch in reduced precision; masks then differ slightly), ``mask_grids`` (a dict:
    grids by size of the box, see ``GridPlan.of_config``), ``boundary_confidence`` (True adds
    ``boundary_confidences`` to the results) and ``boundary_maps`` (True adds these too).

    Args:
        fine_level: Pyramid level the mask head takes as its fine feature map; 0 (stride 4) is P2.
        **kwargs: See the RoI head this is mixed into.
    """

    test_cfg: ConfigDict

    def __init__(self, *args: Any, fine_level: int = 0, **kwargs: Any) -> None:
        if fine_level < 0:
            raise ValueError(f'fine_level counts from 0, the finest, got {fine_level}')
        self.fine_level = fine_level
        super().__init__(*args, **kwargs)

    def init_mask_head(self, mask_roi_extractor: ConfigType, mask_head: ConfigType) -> None:
        """Build the mask head with the box head's classes and the width and stride of its maps."""
        owner = type(self).__name__
        if mask_roi_extractor is None:
            raise ValueError(
                f"{owner} needs a mask_roi_extractor: its grid differs from the box head's"
            )
        configs = dict(mask_roi_extractor=mask_roi_extractor, mask_head=mask_head)
        for name, config in configs.items():
            if isinstance(config, (list, tuple)):
                raise ValueError(
                    f'{name} is a list of {len(config)}, but {owner} has one mask head, for the '
                    f'final boxes: write {name}=dict(_delete_=True, type=...)'
                )
        kind = mask_head['type']
        found = MODELS.get(kind) if isinstance(kind, str) else kind
        # the registry reports unknown names when it builds them
        if found is not None and not issubclass(found, MultiStageMaskHead):
            raise ValueError(
                f'{owner} feeds RefineMaskHead or SimpleRefineMaskHead, not {kind}: name one of '
                'them with _delete_=True, or keep the stock RoI head'
            )
        self.share_roi_extractor = False
        self.mask_roi_extractor = MODELS.build(mask_roi_extractor)
        self.mask_head = MODELS.build(self._complete(mask_head))
        if self.test_cfg is not None:  # report bad values now, not after the training
            check_format(self.test_cfg.get('mask_format', 'dense'))
            InferenceSettings.of_config(self.test_cfg, self.mask_head.stage_sizes)

    def _complete(self, mask_head: ConfigType) -> dict[str, Any]:
        """Add what box head and extractor say to the mask head's config."""
        extractor = self.mask_roi_extractor
        width, strides = extractor.out_channels, list(extractor.featmap_strides)
        known: dict[str, int] = dict(conv_in_channels_instance=width)
        if self.fine_level < len(strides):
            known.update(
                conv_in_channels_semantic=width // levels_joined(extractor),
                semantic_out_stride=strides[self.fine_level],
            )
        source = (
            f'mask_roi_extractor (out_channels={width}, featmap_strides={strides}) with '
            f'fine_level={self.fine_level} gives '
        )
        for key, value in known.items():
            if mask_head.get(key) not in (None, value):
                raise ValueError(
                    f'mask_head.{key}={mask_head[key]} but {source}{value}: omit the former, it '
                    'follows the latter'
                )
        return {**self.with_classes(mask_head), **known}

    def mask_inputs(self, x: tuple[Tensor, ...], rois: Tensor) -> tuple[Tensor, Tensor]:
        """Pool the RoIs and pick the fine map.

        Pyramid Tensor[B, C, h_i, w_i], finest first, and RoIs Tensor[N, 5] of (image index, x1, y1,
        x2, y2) in pixels of the network input -> RoI features Tensor[N, C, S_0, S_0] in the type of
        the weights and the fine map Tensor[B, C, H, W].
        """
        extractor = self.mask_roi_extractor
        if len(x) < max(extractor.num_inputs, self.fine_level + 1):
            raise ValueError(
                f'fine_level={self.fine_level} counts from 0, the finest, but the neck gives '
                f'{len(x)} levels and mask_roi_extractor.featmap_strides names '
                f'{extractor.num_inputs}: raise num_outs of the neck, or name fewer'
            )
        width = x[0].shape[1] * levels_joined(extractor)
        if width != extractor.out_channels:
            raise ValueError(
                f'the neck gives {x[0].shape[1]} channels, but mask_roi_extractor.out_channels is '
                f'{extractor.out_channels}: set it to {width}'
            )
        pooled = extractor(poolable(x[: extractor.num_inputs]), rois)
        if not torch.is_tensor(pooled):
            raise ValueError(
                f'{type(extractor).__name__} pools several maps per RoI, RefineMask heads take '
                'one: use SingleRoIExtractor or GenericRoIExtractor'
            )
        return pooled.to(next(self.mask_head.parameters()).dtype), x[self.fine_level]

    def _mask_forward(self, x: tuple[Tensor, ...], rois: Tensor) -> dict:
        """Finest logits ``mask_preds`` of class 0, for tracing and counting operations."""
        labels = rois.new_zeros(len(rois), dtype=torch.long)
        stage_logits, _ = self.mask_head(*self.mask_inputs(x, rois), rois, labels)
        return dict(mask_preds=stage_logits[-1])

    def mask_loss(
        self,
        x: tuple[Tensor, ...],
        sampling_results: list[SamplingResult],
        bbox_feats: Tensor | None,
        batch_gt_instances: InstanceList,
    ) -> dict:
        """Losses of the positive RoIs, predicted with their ground-truth classes; no positives give
        zero losses.

        Returns:
            ``loss_mask`` and ``mask_targets`` (see ``loss_and_target`` of the mask head) and the
            finest logits ``mask_preds``.
        """
        rois = bbox2roi([result.pos_priors for result in sampling_results])  # (N, 5)
        labels = torch.cat([result.pos_gt_labels for result in sampling_results])
        outputs = self.mask_head(*self.mask_inputs(x, rois), rois, labels)
        results = self.mask_head.loss_and_target(*outputs, sampling_results, batch_gt_instances)
        return dict(results, mask_preds=outputs[0][-1])

    def predict_mask(
        self,
        x: tuple[Tensor, ...],
        batch_img_metas: list[dict],
        results_list: InstanceList,
        rescale: bool = False,
    ) -> InstanceList:
        """Add masks to the detections, whose boxes are in pixels of the network input.

        Returns:
            Detections with ``masks``: BoolTensor[n, h, w], or a list of n RLEs with
            ``mask_format='rle'``, of the original image if ``rescale``. With
            ``boundary_confidence``: ``boundary_confidences`` Tensor[n] in [0, 1], see
            ``inference.boundary_confidence``. With ``boundary_maps``: also ``boundary_maps``, a
            list of n Tensor[S, S] over the boxes, ``stage_agreement`` pixel by pixel.

        Raises:
            FloatingPointError: Features or logits are not finite.
        """
        settings = InferenceSettings.of_config(self.test_cfg, self.mask_head.stage_sizes)
        rois = bbox2roi([results.bboxes for results in results_list])  # (N, 5)
        if not len(rois):  # no logits tell
            require_finite('feature maps', *x)
        labels = torch.cat([results.labels for results in results_list])
        groups = self.mask_head.fused_masks(*self.mask_inputs(x, rois), rois, labels, settings)
        require_finite('mask logits', *(group.logits for group in groups))
        counts = [len(results) for results in results_list]
        masks = _as_grids(groups, [group.logits.sigmoid() for group in groups]).split(counts)
        for results, grids, meta in zip(results_list, masks, batch_img_metas):
            if rescale:
                scale = results.bboxes.new_tensor(scale_factors(meta) * 2)
                results.bboxes = results.bboxes / scale
            results.masks = roi_masks(
                grids,
                results.bboxes,
                output_size(meta, rescale),
                threshold=self.test_cfg.get('mask_thr_binary', 0.5),
                mask_format=self.test_cfg.get('mask_format', 'dense'),
            )
        if settings.confidence:
            self._add_confidences(groups, results_list, counts)
        return results_list

    def _add_confidences(
        self, groups: list[FusedMasks], results_list: InstanceList, counts: list[int]
    ) -> None:
        confidences = groups[0].logits.new_zeros(sum(counts))  # (N,), in the order of the RoIs
        for group in groups:
            confidences[group.indices] = group.confidences
        for results, part in zip(results_list, confidences.split(counts)):
            results.boundary_confidences = part
        if self.test_cfg.get('boundary_maps'):
            maps = _as_grids(groups, [group.agreement for group in groups]).split(counts)
            for results, grids in zip(results_list, maps):
                results.boundary_maps = grids.as_list()


def levels_joined(extractor: nn.Module) -> int:
    """How many levels have their channels side by side in what a RoI extractor pools."""
    joined = getattr(extractor, 'aggregation', None) == 'concat'  # of GenericRoIExtractor
    return extractor.num_inputs if joined else 1


def _as_grids(groups: list[FusedMasks], maps: list[Tensor]) -> MaskGrids:
    """Gather one-channel maps of the groups, Tensor[n, 1, S, S] each."""
    return MaskGrids([GridGroup(group.indices, m[:, 0]) for group, m in zip(groups, maps)])


@MODELS.register_module(name=['RefineRoIHead', 'SimpleRefineRoIHead'])
class RefineRoIHead(FineMaskMixin, StandardRoIHead):
    """``StandardRoIHead`` with a RefineMask head; arguments as in both bases."""


@MODELS.register_module()
class CascadeRefineRoIHead(FineMaskMixin, CascadeRoIHead):
    """``CascadeRoIHead`` with one RefineMask head, trained and run on the boxes of the last stage.

    ``mask_head`` and ``mask_roi_extractor`` are single configs, not one per stage. The mask losses
    keep their weight, but for a last one of ``stage_loss_weights`` of 0, which turns them off.
    """

    # stock cascades hand the stage to every method, other RoI heads do not

    def _mask_forward(  # type: ignore[override]
        self, stage: int, x: tuple[Tensor, ...], rois: Tensor, *args: Any, **kwargs: Any
    ) -> dict:
        return super()._mask_forward(x, rois)

    def mask_loss(  # type: ignore[override]
        self,
        stage: int,
        x: tuple[Tensor, ...],
        sampling_results: list[SamplingResult],
        batch_gt_instances: InstanceList,
    ) -> dict:
        """Losses of the mask branch at the last stage, nothing before."""
        if stage < self.num_stages - 1:
            return dict(loss_mask={})
        results = super().mask_loss(x, sampling_results, None, batch_gt_instances)
        weight = self.stage_loss_weights[stage] or 1  # by which the caller multiplies all losses
        return dict(results, loss_mask={k: v / weight for k, v in results['loss_mask'].items()})
