"""Test-time augmentation with masks: the predictions of several views of a picture become one.

Boxes of all views are merged. A two-stage model then runs its mask head on the merged boxes in
every view, and the probabilities are averaged before the threshold; of other models each merged
box keeps the mask of its best-scored member.

Shapes:   V views, N boxes of all views, M merged boxes, S side of a mask grid.
"""

import contextlib
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.ops import batched_nms
from mmdet.models.test_time_augs import DetTTAModel
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox_flip, bbox_overlaps
from mmdet.utils import ConfigType
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask
from torch import Tensor, nn

from mmrefine.masks import RLEMasks, roi_masks_to_rle
from mmrefine.masks.crops import flip_masks
from mmrefine.masks.formats import to_rles
from mmrefine.masks.stock_heads import set_mask_format

from .given_boxes import network_boxes
from .mask_branch import MaskBranch, shallow_copy

TTA_CFG: dict[str, Any] = dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100)
GRID_AXES = {'horizontal': (-1,), 'vertical': (-2,), 'diagonal': (-2, -1)}


@MODELS.register_module()
class ViewsTTAModel(DetTTAModel):
    """``DetTTAModel`` that merges masks as well; configured and called in the same way.

    A single view that is not flipped gives what the model itself gives.

    Args:
        tta_cfg: ``nms``: any ``nms`` of MMDetection (``type='nms'``, ``'soft_nms'``), or
            ``type='weighted_boxes'`` with ``iou_threshold``; ``max_per_img``.
        **kwargs: ``module``, see ``mmengine.model.BaseTTAModel``.
    """

    def __init__(self, tta_cfg: ConfigType | None = None, **kwargs: Any) -> None:
        super().__init__(tta_cfg={**TTA_CFG, **(tta_cfg or {})}, **kwargs)
        # stock heads of another kind give dense masks, which are encoded view by view
        with contextlib.suppress(ValueError):
            set_mask_format(self.module, 'rle')

    @torch.no_grad()
    def test_step(self, data: dict) -> list[DetDataSample]:
        """Predict a batch.

        Args:
            data: ``inputs`` and ``data_samples`` of ``TestTimeAug``: V lists of one item a picture.

        Returns:
            A sample a picture, ``masks`` as RLE.
        """
        views = [
            dict(inputs=inputs, data_samples=samples)
            for inputs, samples in zip(data['inputs'], data['data_samples'])
        ]
        if len(views) == 1 and not any(s.get('flip') for s in views[0]['data_samples']):
            return self.module.test_step(views[0])
        try:
            branch = MaskBranch(self.module, grids=True)
        except (TypeError, ValueError):  # no masks of boxes
            found = [self.module.test_step(view) for view in views]
            return [self._merge_single_sample(samples) for samples in zip(*found)]
        boxes, features = zip(*(_boxes_and_features(self.module, view) for view in views))
        return [
            self._with_average_masks(
                branch, samples, [[level[[i]] for level in x] for x in features]
            )
            for i, samples in enumerate(zip(*boxes))
        ]

    def _merge_single_sample(self, data_samples: tuple[DetDataSample, ...]) -> DetDataSample:
        """Merge the views of a picture; each box keeps the mask of its best-scored member."""
        if 'pred_instances' not in data_samples[0]:
            raise ValueError(f'{type(self.module).__name__} gives no objects: there are no views')
        merged = data_samples[0].new()
        results, source = self._merge_boxes(data_samples)
        if 'masks' in data_samples[0].pred_instances:
            size = tuple(merged.ori_shape[:2])
            rles: list[dict] = []
            for sample in data_samples:
                found = to_rles(sample.pred_instances.masks)
                turned = sample.get('flip')
                rles += flip_masks(found, sample.flip_direction) if turned else found
            results.masks = RLEMasks([rles[i] for i in source.tolist()], size)
        merged.pred_instances = results
        return merged

    def _merge_boxes(self, samples: tuple[DetDataSample, ...]) -> tuple[InstanceData, Tensor]:
        """Merged ``bboxes``, ``scores``, ``labels``, best first, and the best-scored member of
        each, LongTensor[M] among the N boxes of all views."""
        found = [sample.pred_instances for sample in samples]
        boxes, scores = self.merge_aug_bboxes(
            [_solid_boxes(instances) for instances in found],
            [instances.scores for instances in found],
            [{'flip': False, 'flip_direction': None, **sample.metainfo} for sample in samples],
        )
        labels = torch.cat([instances.labels for instances in found])
        config = {'iou_threshold': 0.5, **self.tta_cfg['nms']}
        if len(boxes) == 0:
            source = labels
        elif config.get('type') == 'weighted_boxes':
            boxes, scores, labels, source = weighted_boxes(
                boxes, scores, labels, config['iou_threshold'], len(samples)
            )
        else:
            merged, source = batched_nms(boxes, scores, labels, config)
            boxes, scores, labels = merged[:, :4], merged[:, 4], labels[source]
        kept = slice(self.tta_cfg['max_per_img'])
        results = InstanceData(bboxes=boxes[kept], scores=scores[kept], labels=labels[kept])
        return results, source[kept]

    def _with_average_masks(
        self, branch: MaskBranch, samples: tuple[DetDataSample, ...], features: list[list[Tensor]]
    ) -> DetDataSample:
        """Merge the boxes of a picture's views and make their masks once."""
        merged = samples[0].new()
        results, _ = self._merge_boxes(samples)
        size = tuple(merged.ori_shape[:2])
        if len(results) == 0:
            results.masks = RLEMasks([], size)
        else:
            grids, factors = zip(
                *(_view_grids(branch, x, sample, results) for x, sample in zip(features, samples))
            )
            side = max(grid.shape[-1] for grid in grids)
            whole = torch.stack([_resize_grids(grid, side) for grid in grids]).mean(0)  # (M, S, S)
            threshold = branch.roi_head.test_cfg.get('mask_thr_binary', 0.5)
            rles = roi_masks_to_rle(whole, results.bboxes, size, threshold)
            results.masks = RLEMasks(rles, size)
            results.scores = results.scores * torch.stack(factors).mean(0)
            results = results[results.scores.argsort(descending=True, stable=True)]
        merged.pred_instances = results
        return merged


def weighted_boxes(
    boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float, views: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Average boxes of one class that overlap, weighted by their scores.

    Source: Solovyev et al., Weighted boxes fusion, Image and Vision Computing 2021. A box that
    fewer views found than there are loses score in proportion.

    Args:
        boxes: Tensor[N, 4].
        scores: Tensor[N].
        labels: LongTensor[N].
        iou_threshold: Least overlap with the average so far.
        views: V.

    Returns:
        Tensor[M, 4], Tensor[M], LongTensor[M], best first, and the best-scored member of each,
        LongTensor[M].
    """
    averages, kinds = torch.zeros_like(boxes), torch.full_like(labels, -1)  # of M so far
    members: list[list[int]] = []
    for i in scores.argsort(descending=True, stable=True).tolist():
        overlap = bbox_overlaps(boxes[i : i + 1], averages)[0] * (kinds == labels[i])  # (N,)
        best = int(overlap.argmax())
        if overlap[best] <= iou_threshold:
            best = len(members)
            members.append([])
            kinds[best] = labels[i]
        members[best].append(i)
        weights = scores[members[best]]
        weights = (
            weights / weights.sum()
            if weights.sum() > 0
            else torch.full_like(weights, 1 / len(weights))
        )
        averages[best] = (weights[:, None] * boxes[members[best]]).sum(0)
    averages = averages[: len(members)]
    first = torch.tensor([group[0] for group in members], device=boxes.device)
    found = scores.new_tensor([min(len(group), views) / views for group in members])
    means = torch.stack([scores[group].mean() for group in members]) * found
    order = means.argsort(descending=True, stable=True)
    return averages[order], means[order], labels[first[order]], first[order]


def _boxes_and_features(
    model: nn.Module, view: dict
) -> tuple[list[DetDataSample], tuple[Tensor, ...]]:
    """Boxes of a two-stage model without the work for masks, and its feature pyramid."""
    twin = shallow_copy(model)
    twin._modules['roi_head'] = shallow_copy(model.roi_head)
    del twin.roi_head._modules['mask_head']
    features: list[tuple[Tensor, ...]] = []

    def extract_feat(inputs: Tensor) -> tuple[Tensor, ...]:
        features.append(model.extract_feat(inputs))
        return features[0]

    twin.extract_feat = extract_feat
    return twin.test_step(view), features[0]


def _view_grids(
    branch: MaskBranch, x: list[Tensor], sample: DetDataSample, results: InstanceData
) -> tuple[Tensor, Tensor]:
    """Probabilities of merged boxes in one view, Tensor[M, S, S] as if it were not flipped, and
    what the head makes of the scores."""
    boxes, direction = results.bboxes, sample.get('flip_direction')
    flipped = bool(sample.get('flip'))
    if flipped:
        boxes = bbox_flip(boxes, sample.ori_shape, direction)
    # stock cascades would turn their averages over the stages
    meta = {**sample.metainfo, 'flip': False}
    found = branch(tuple(x), meta, network_boxes(boxes, sample.scale_factor), results.labels)
    side = max(grid.shape[-1] for grid in found.masks)
    grids = torch.cat([_resize_grids(grid[None], side) for grid in found.masks])
    return (grids.flip(GRID_AXES[direction]) if flipped else grids), found.scores


def _resize_grids(grids: Tensor, side: int) -> Tensor:
    """Tensor[n, s, s] -> Tensor[n, side, side]."""
    if grids.shape[-1] == side:
        return grids
    return F.interpolate(grids[None], size=(side, side), mode='bilinear', align_corners=False)[0]


def _solid_boxes(instances: InstanceData) -> Tensor:
    """Boxes, from the masks where a model gives none (SOLO)."""
    boxes = instances.bboxes
    if 'masks' not in instances or not len(boxes) or (boxes[:, 2:] > boxes[:, :2]).any():
        return boxes
    corners = boxes.new_tensor(coco_mask.toBbox(to_rles(instances.masks)))
    corners[:, 2:] += corners[:, :2]
    return corners
