"""Average recall of class-agnostic proposals: boxes and segments, any number of proposals, by
size, and the area under the curve.

Paper:    protocol of DeepMask (https://arxiv.org/abs/1506.06204) on COCO's average recall
Origin:   pycocotools ``COCOeval`` with ``useCats=0``; same numbers
Changes:  images are matched as they arrive and only the rank at which each object was found is
          kept, so recall at every number of proposals follows from one pass and nothing grows with
          the number of masks.

Shapes:   D proposals and G objects of an image, T IoU thresholds, A area ranges.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from mmdet.registry import METRICS
from mmengine.evaluator import BaseMetric
from mmengine.fileio import get_local_path
from mmengine.logging import MMLogger
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from mmrefine.results.predictions import mask_counts, to_numpy

AREA_RANGES = {
    'all': (0.0, 1e10),
    's': (0.0, 32.0**2),
    'm': (32.0**2, 96.0**2),
    'l': (96.0**2, 1e10),
}
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
IOU_TYPES = ('segm', 'bbox')
MAX_PROPOSALS = 1000
_NEVER = -1


@dataclass(frozen=True)
class ImageRanks:
    """What is kept of an image.

    Attributes:
        ranks: int16 array[A, T, G], 0-based rank of the proposal that found the object, -1 if none
            did.
        counted: bool array[A, G], whether the object counts in the range (size, no crowd).
    """

    ranks: np.ndarray
    counted: np.ndarray


@dataclass
class ARState:
    """Ranks of all images."""

    images: list[ImageRanks] = field(default_factory=list)

    def add(self, ranks: ImageRanks) -> None:
        """Add an image."""
        self.images.append(ranks)


def match_ranks(
    ious: np.ndarray, crowd: np.ndarray, counted: np.ndarray, thresholds: np.ndarray
) -> np.ndarray:
    """Greedy matching in the order of the proposals, as COCO defines it.

    A proposal takes the free object of highest IoU (the later one of equals), uncounted objects
    only if no counted one fits. Crowds can be taken again and again.

    Args:
        ious: array[D, G], best proposal first.
        crowd: bool array[G].
        counted: bool array[A, G].
        thresholds: array[T].

    Returns:
        int16 array[A, T, G], rank of the proposal that took the object, -1 if none did.
    """
    limits = np.minimum(thresholds, 1 - 1e-10)
    ranks = np.full((len(counted), len(limits), ious.shape[1]), _NEVER, np.int16)
    if ious.size == 0:
        return ranks
    free = np.ones(ranks.shape, bool)
    ranges, steps = np.ogrid[: len(counted), : len(limits)]
    for rank in np.flatnonzero(ious.max(1) >= limits.min()):
        row = ious[rank]
        fits = free & (row >= limits[:, None])
        for group in (counted, ~counted):
            chosen = fits & group[:, None]
            hit = chosen.any(2)
            # the last of equals: search the reversed row
            best = row.size - 1 - np.where(chosen, row, -1.0)[..., ::-1].argmax(2)
            a, t = np.nonzero(hit)
            g = best[a, t]
            ranks[a, t, g] = np.where(ranks[a, t, g] == _NEVER, rank, ranks[a, t, g])
            free[a, t, g] = crowd[g]
            fits &= ~hit[..., None]
    return ranks


def image_ranks(
    annotations: Sequence[Mapping[str, Any]],
    proposals: Sequence[Mapping[str, Any]],
    iou_type: str,
    thresholds: np.ndarray = IOU_THRESHOLDS,
    limit: int = MAX_PROPOSALS,
) -> ImageRanks:
    """Match the proposals of one image.

    Args:
        annotations: COCO annotations with ``bbox`` (x, y, w, h), ``area``, ``iscrowd`` and, for
            segments, ``segmentation`` as RLE.
        proposals: Dicts with ``score`` and ``segmentation`` (RLE) or ``bbox``; without ``bbox``
            the mask's tight box counts.
        iou_type: ``segm`` or ``bbox``.
        thresholds: IoU thresholds.
        limit: Proposals considered.
    """
    crowd = np.array([bool(a.get('iscrowd', 0)) for a in annotations], bool)
    ignored = crowd | np.array([bool(a.get('ignore', 0)) for a in annotations], bool)
    area = np.array([float(a['area']) for a in annotations])
    counted = np.stack(
        [(area >= low) & (area <= high) & ~ignored for low, high in AREA_RANGES.values()]
    )
    order = np.argsort([-p['score'] for p in proposals], kind='mergesort')[:limit]
    chosen: Any = [_shape(proposals[i], iou_type) for i in order]
    truth: Any = [_shape(a, iou_type) for a in annotations]
    ious = np.zeros((len(chosen), len(truth)))
    if chosen and truth:
        if iou_type == 'bbox':
            chosen, truth = np.array(chosen, float), np.array(truth, float)
        ious = np.asarray(coco_mask.iou(chosen, truth, crowd.astype(np.uint8)))
    return ImageRanks(match_ranks(ious, crowd, counted, thresholds), counted)


def _shape(item: Mapping[str, Any], iou_type: str) -> Any:
    if iou_type == 'segm':
        return item['segmentation']
    return item['bbox'] if 'bbox' in item else coco_mask.toBbox(item['segmentation'])


def average_recall(state: ARState, numbers: Sequence[int]) -> dict[str, dict[int | str, float]]:
    """Average recall by area range and number of proposals.

    Args:
        state: Ranks of all images.
        numbers: Numbers of proposals.

    Returns:
        Range name -> number -> recall averaged over the IoU thresholds, and ``'auc'``: the
        normalised area under recall against log10 of the number of proposals, by the trapezoids
        between 1, 10, 100 and 1000. -1 for a range without objects.
    """
    nodes = (1, 10, 100, 1000)
    result: dict[str, dict[int | str, float]] = {}
    for a, name in enumerate(AREA_RANGES):
        found = [image.ranks[a][:, image.counted[a]] for image in state.images]
        ranks = np.concatenate(found, axis=1) if found else np.zeros((1, 0))
        if ranks.shape[1] == 0:
            result[name] = dict.fromkeys(numbers, -1.0) | {'auc': -1.0}
            continue
        recall = {n: float(((ranks >= 0) & (ranks < n)).mean(1).mean()) for n in {*numbers, *nodes}}
        heights = np.array([recall[n] for n in nodes])
        area = float(((heights[1:] + heights[:-1]) / 2).mean())
        result[name] = {n: recall[n] for n in numbers} | {'auc': area}
    return result


@METRICS.register_module()
class ProposalARMetric(BaseMetric):
    """AR of proposals from any model: DeepMask and SharpMask, an RPN (boxes), or a detector's
    masks.

    Reports ``segm_AR@10``, ..., ``segm_AR_s@100``, ..., ``segm_AUC`` and the same for ``bbox``.
    Categories are not looked at; crowd annotations are ignored.

    Args:
        ann_file: COCO annotation file. None reads ``instances`` of the data samples.
        iou_types: ``segm``, ``bbox`` or both.
        proposal_nums: Numbers of proposals, at most 1000.
        size_num: Number of proposals at which recall by object size is reported.
        auc: Whether to report the area under the curve (it always uses 1, 10, 100 and 1000
            proposals).
        boxes_from_masks: Score the tight box of each mask instead of the predicted box.
        max_images: Evaluate the first images by id only (5000 of val2014 in the papers).
        collect_device: As in mmengine.
        prefix: As in mmengine.

    Raises:
        ValueError: Bad option.
    """

    default_prefix = 'proposals'

    def __init__(
        self,
        ann_file: str | None = None,
        iou_types: str | Sequence[str] = IOU_TYPES,
        proposal_nums: Sequence[int] = (10, 100, 1000),
        size_num: int = 100,
        auc: bool = True,
        boxes_from_masks: bool = False,
        max_images: int | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
        backend_args: dict | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.iou_types = (iou_types,) if isinstance(iou_types, str) else tuple(iou_types)
        unknown = set(self.iou_types) - set(IOU_TYPES)
        if unknown or not self.iou_types:
            raise ValueError(f'iou_types must be among {IOU_TYPES}, got {iou_types!r}')
        numbers = (*proposal_nums, size_num)
        if min(numbers) < 1 or max(numbers) > MAX_PROPOSALS:
            raise ValueError(f'proposal numbers must lie in 1..{MAX_PROPOSALS}, got {numbers}')
        self.proposal_nums, self.size_num = tuple(proposal_nums), size_num
        self.auc, self.boxes_from_masks = auc, boxes_from_masks
        self.coco, self.allowed = None, None
        if ann_file is not None:
            with get_local_path(ann_file, backend_args=backend_args) as path:
                self.coco = COCO(path)
        if max_images is not None:
            if self.coco is None:
                raise ValueError('max_images needs ann_file, which lists all image ids')
            self.allowed = set(sorted(self.coco.getImgIds())[:max_images])

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Match the proposals of a batch."""
        for sample in data_samples:
            if self.allowed is not None and sample['img_id'] not in self.allowed:
                continue
            size = tuple(sample['ori_shape'][:2])
            annotations = self._annotations(sample, size)
            proposals = self._proposals(sample, size)
            self.results.append(
                {kind: image_ranks(annotations, proposals[kind], kind) for kind in self.iou_types}
            )

    def _annotations(self, sample: Mapping[str, Any], size: tuple[int, int]) -> list[dict]:
        if self.coco is not None:
            found = self.coco.loadAnns(self.coco.getAnnIds(imgIds=[sample['img_id']]))
            return [self._with_rle(a, size) for a in found]
        if 'instances' not in sample:
            raise KeyError(
                "the data samples hold no 'instances': set ann_file of ProposalARMetric, or add "
                "'instances' to the meta_keys of the packing transform"
            )
        annotations = []
        for instance in sample['instances']:
            x1, y1, x2, y2 = instance['bbox']
            annotation = dict(
                bbox=[x1, y1, x2 - x1, y2 - y1], iscrowd=int(instance.get('ignore_flag', 0))
            )
            annotation['area'] = (x2 - x1) * (y2 - y1)
            if 'mask' in instance:
                annotation = self._with_rle(annotation | dict(segmentation=instance['mask']), size)
                annotation['area'] = float(coco_mask.area(annotation['segmentation']))
            annotations.append(annotation)
        return annotations

    def _with_rle(self, annotation: dict, size: tuple[int, int]) -> dict:
        if 'segm' not in self.iou_types and 'area' in annotation:
            return annotation
        segmentation = annotation['segmentation']
        if isinstance(segmentation, list):
            rle = coco_mask.merge(coco_mask.frPyObjects(segmentation, *size))
        elif isinstance(segmentation['counts'], list):
            rle = coco_mask.frPyObjects(segmentation, *size)
        else:
            rle = segmentation
        return annotation | dict(segmentation=rle)

    def _proposals(self, sample: Mapping[str, Any], size: tuple[int, int]) -> dict[str, list[dict]]:
        predictions = sample['pred_instances']
        scores = to_numpy(predictions['scores'])
        # only the best can count, so only those are encoded
        best = np.argsort(-scores, kind='mergesort')[:MAX_PROPOSALS]
        found: dict[str, list[dict]] = {}
        rles: list[dict] = []
        if 'segm' in self.iou_types or self.boxes_from_masks:
            if 'masks' not in predictions:
                raise KeyError(
                    f'image {sample.get("img_id")} has no predicted masks; '
                    "for box proposals set iou_types='bbox'"
                )
            masks = predictions['masks']
            chosen = (
                [masks[i] for i in best] if isinstance(masks, (list, tuple)) else masks[best.copy()]
            )
            counts = mask_counts(chosen, size, f'image {sample.get("img_id")}')
            rles = [dict(size=list(size), counts=c) for c in counts]
        if 'segm' in self.iou_types:
            found['segm'] = [dict(score=scores[i], segmentation=r) for i, r in zip(best, rles)]
        if 'bbox' in self.iou_types and self.boxes_from_masks:
            found['bbox'] = [dict(score=scores[i], segmentation=r) for i, r in zip(best, rles)]
        elif 'bbox' in self.iou_types:
            boxes = to_numpy(predictions['bboxes']).reshape(-1, 4)
            found['bbox'] = [
                dict(score=scores[i], bbox=[x1, y1, x2 - x1, y2 - y1])
                for i, (x1, y1, x2, y2) in zip(best, boxes[best])
            ]
        return found

    def compute_metrics(self, results: list[dict[str, ImageRanks]]) -> dict[str, float]:
        """Recall over all images."""
        logger = MMLogger.get_current_instance()
        metrics: dict[str, float] = {}
        for kind in self.iou_types:
            recall = average_recall(
                ARState([r[kind] for r in results]), (*self.proposal_nums, self.size_num)
            )
            metrics.update({f'{kind}_AR@{n}': recall['all'][n] for n in self.proposal_nums})
            metrics.update(
                {f'{kind}_AR_{a}@{self.size_num}': recall[a][self.size_num] for a in 'sml'}
            )
            if self.auc:
                metrics[f'{kind}_AUC'] = recall['all']['auc']
        logger.info('  '.join(f'{key} {value:.4f}' for key, value in metrics.items()))
        return metrics
