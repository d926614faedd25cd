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
from typing import Any, NamedTuple

import numpy as np
from mmdet.registry import METRICS
from mmengine.evaluator import BaseMetric
from mmengine.fileio import get_local_path
from mmengine.logging import MMLogger
from pycocotools import mask as coco_mask

from mmrefine.results.ground_truth import GroundTruth, Id
from mmrefine.results.json_files import load_json
from mmrefine.results.plain_dataset import image_truth, truth_of_images
from mmrefine.results.predictions import first_of_each, mask_counts, read_boxes

from .greedy import match_greedily, pairwise_ious
from .protocols import COCO_AREAS, read_truth
from .scoring_metric import require_same

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
IOU_TYPES = ('segm', 'bbox')
MAX_PROPOSALS = 1000
AUC_NUMBERS = (1, 10, 100, 1000)


class ImageRanks(NamedTuple):
    """What is kept of an image."""

    # int16 array[A, T, G], 0-based rank of the proposal that found the object, -1 if none did
    ranks: np.ndarray
    counted: np.ndarray  # bool array[A, G], whether the object counts in the range (size, no crowd)


def image_ranks(
    annotations: Sequence[Mapping[str, Any]],
    proposals: Sequence[Mapping[str, Any]],
    iou_type: str,
    thresholds: np.ndarray = IOU_THRESHOLDS,
) -> ImageRanks:
    """Match the proposals of one image at T IoU thresholds.

    Args:
        annotations: COCO annotations with ``bbox`` (x, y, w, h), ``area``, ``iscrowd`` and, for
            segments, ``segmentation`` as RLE.
        proposals: Dicts with ``score`` and ``segmentation`` (RLE) or ``bbox``; without ``bbox`` the
            mask's tight box counts. The best 1000 are considered.
        iou_type: ``segm`` or ``bbox``.
    """
    crowd = np.array([bool(a.get('iscrowd', 0)) for a in annotations], bool)
    ignored = crowd | np.array([bool(a.get('ignore', 0)) for a in annotations], bool)
    area = np.array([float(a['area']) for a in annotations])
    counted = np.stack(
        [(area >= low) & (area <= high) & ~ignored for low, high in COCO_AREAS.values()]
    )  # (A, G)
    order = np.argsort([-p['score'] for p in proposals], kind='stable')[:MAX_PROPOSALS]
    chosen = [_shape(proposals[i], iou_type) for i in order]
    ious = pairwise_ious(chosen, [_shape(a, iou_type) for a in annotations], crowd)
    partners = match_greedily(ious, crowd, counted, thresholds)  # (A, T, D)
    ranks = np.full((*partners.shape[:2], len(annotations)), -1, np.int16)  # (A, T, G)
    a, t, d = np.nonzero(partners >= 0)
    ranks[a, t, partners[a, t, d]] = d  # only crowds, which never count, are found several times
    return ImageRanks(ranks, counted)


def _shape(item: Mapping[str, Any], iou_type: str) -> Any:
    if iou_type == 'segm':
        return item['segmentation']
    return item['bbox'] if 'bbox' in item else coco_mask.toBbox(item['segmentation'])


def average_recall(
    images: Sequence[ImageRanks], numbers: Sequence[int]
) -> dict[str, dict[int | str, float]]:
    """Average recall by area range and number of proposals, over the IoU thresholds; -1 without
    objects.

    Range name -> number -> recall, and ``'auc'``: the normalised area under recall against log10 of
    the number of proposals, by the trapezoids between 1, 10, 100 and 1000.
    """
    result: dict[str, dict[int | str, float]] = {}
    for a, name in enumerate(COCO_AREAS):
        found = [image.ranks[a][:, image.counted[a]] for image in images]
        ranks = np.concatenate(found, axis=1) if found else np.zeros((1, 0))  # (T, objects)
        if ranks.shape[1] == 0:
            result[name] = dict.fromkeys(numbers, -1.0) | {'auc': -1.0}
            continue
        recall = {
            n: float(((ranks >= 0) & (ranks < n)).mean(1).mean()) for n in {*numbers, *AUC_NUMBERS}
        }
        heights = np.array([recall[n] for n in AUC_NUMBERS])
        area = float(((heights[1:] + heights[:-1]) / 2).mean())
        result[name] = {n: recall[n] for n in numbers} | {'auc': area}
    return result


@METRICS.register_module()
class ProposalARMetric(BaseMetric):
    """AR of proposals from any model: DeepMask and SharpMask, an RPN (boxes), or a detector's
    masks.

    Reports ``segm_AR@10``, ..., ``segm_AR_s@100``, ..., ``segm_AUC`` and the same for ``bbox``.
    Categories only decide the order of equal scores, as in COCOeval; crowd annotations are ignored.

    Args:
        ann_file: COCO annotation file. None reads ``instances`` of the data samples.
        iou_types: ``segm``, ``bbox`` or both.
        proposal_nums: Numbers of proposals (or one), at most 1000.
        size_num: Number of proposals at which recall by object size is reported.
        auc: Whether to report the area under the curve (it always uses 1, 10, 100 and 1000
            proposals).
        boxes_from_masks: Score the tight box of each mask instead of the predicted box.
        max_images: Score the images with the lowest ids only (5000 of val2014 in the papers); the
            test data set must list the same ones, see ``CocoFirstImagesDataset``.

    Raises:
        ValueError: Bad option, a damaged annotation file, samples without annotations, or other
            images predicted than ``ann_file`` and ``max_images`` say.
        KeyError: Predictions without masks.
    """

    default_prefix = 'proposals'

    def __init__(
        self,
        ann_file: str | None = None,
        iou_types: str | Sequence[str] = IOU_TYPES,
        proposal_nums: int | Sequence[int] = (10, 100, 1000),
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
        counts = (proposal_nums,) if isinstance(proposal_nums, int) else tuple(proposal_nums)
        numbers = (*counts, size_num)
        if min(numbers) < 1 or max(numbers) > MAX_PROPOSALS:
            raise ValueError(f'proposal numbers must lie in 1..{MAX_PROPOSALS}, got {numbers}')
        self.proposal_nums, self.size_num = counts, size_num
        self.auc, self.boxes_from_masks = auc, boxes_from_masks
        if max_images is not None and ann_file is None:
            raise ValueError('max_images needs ann_file, which lists all image ids')
        if max_images is not None and max_images < 1:
            raise ValueError(f'max_images must be positive, got {max_images}')
        self.ann_file = ann_file
        self.truth: dict[Id, list[dict]] | None = None  # of the images that count
        self.gt: GroundTruth | None = None
        if ann_file is not None:
            with get_local_path(ann_file, backend_args=backend_args) as path:
                gt = read_truth(load_json(path), 'coco', ann_file)
            self.truth = {image: [] for image in list(gt.sizes)[:max_images]}
            gt.annotations = [a for a in gt.annotations if a['image_id'] in self.truth]
            for annotation in self._complete(gt):
                self.truth[annotation['image_id']].append(annotation)
            self.gt = gt

    def _complete(self, gt: GroundTruth) -> list[dict]:
        """The annotations by category, which is the order that COCOeval gives them."""
        gt.require(boxes='bbox' in self.iou_types, masks='segm' in self.iou_types)
        return sorted(gt.annotations, key=lambda a: a['category_id'])

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Match the proposals of a batch."""
        for sample in data_samples:
            image, size = sample['img_id'], tuple(sample['ori_shape'][:2])
            if self.truth is not None and image not in self.truth:
                self.results.append(
                    (image, sample.get('img_path'), {})
                )  # an error once all images are known
                continue
            annotations = (
                self._sample_truth(sample, size) if self.truth is None else self.truth[image]
            )
            proposals = self._proposals(sample, size)
            ranks = {kind: image_ranks(annotations, proposals, kind) for kind in self.iou_types}
            self.results.append((image, sample.get('img_path'), ranks))

    def _sample_truth(self, sample: Mapping[str, Any], size: tuple[int, int]) -> list[dict]:
        found = image_truth(sample, size)
        labels = [one['category_id'] for one in found['objects']]
        names = [str(label) for label in range(max(labels, default=0) + 1)]
        return self._complete(truth_of_images({0: found}, names))

    def _proposals(self, sample: Mapping[str, Any], size: tuple[int, int]) -> list[dict[str, Any]]:
        """The best proposals, best first; only they can count, so only their masks are encoded."""
        predictions, label = sample['pred_instances'], f'image {sample["img_id"]!r}'
        boxes = 'bbox' in self.iou_types and not self.boxes_from_masks
        count = len(predictions['scores'])
        # What need not be given.
        spare = {'labels': np.zeros(count)} | ({} if boxes else {'bboxes': np.zeros((count, 4))})
        found = read_boxes({**spare, **predictions}, label)
        scores = found['scores']
        best = np.lexsort((self._categories(found['labels']), -scores))[:MAX_PROPOSALS]
        proposals: list[dict[str, Any]] = [{'score': score} for score in scores[best]]
        if 'segm' in self.iou_types or self.boxes_from_masks:
            if 'masks' not in predictions:
                raise KeyError(
                    f"{label} has no predicted masks; for box proposals set iou_types='bbox'"
                )
            masks = predictions['masks']
            # A copy, since torch takes no index array with negative strides.
            chosen = (
                [masks[i] for i in best] if isinstance(masks, list | tuple) else masks[best.copy()]
            )
            counts = mask_counts(chosen, size, label)
            for proposal, one in zip(proposals, counts):
                proposal['segmentation'] = {'size': list(size), 'counts': one}
        if boxes:
            for proposal, box in zip(proposals, found['boxes'][best].tolist()):
                proposal['bbox'] = box
        return proposals

    def _categories(self, labels: np.ndarray) -> np.ndarray:
        """Rank of the category id of every proposal, array[D]; labels that name none are 0."""
        if self.gt is None:
            return labels
        ids = self.gt.categories_of((self.dataset_meta or {}).get('classes') or ())
        ranks = np.append(np.argsort(np.argsort(ids)), 0)
        return ranks[np.where((labels >= 0) & (labels < len(ids)), labels, -1)]

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Recall over all images."""
        if self.truth is None:  # equal ids of several files are different images
            results = [((image, path), path, ranks) for image, path, ranks in results]
        images = first_of_each(results)
        if self.truth is not None:
            require_same(images, self.truth, str(self.ann_file))
        metrics: dict[str, float] = {}
        for kind in self.iou_types:
            numbers = (*self.proposal_nums, self.size_num)
            # mmengine collects named tuples as plain ones
            ranks = [ImageRanks(*image[kind]) for image in images.values()]
            recall = average_recall(ranks, numbers)
            metrics.update({f'{kind}_AR@{n}': recall['all'][n] for n in self.proposal_nums})
            metrics.update(
                {f'{kind}_AR_{a}@{self.size_num}': recall[a][self.size_num] for a in 'sml'}
            )
            if self.auc:
                metrics[f'{kind}_AUC'] = recall['all']['auc']
        MMLogger.get_current_instance().info(
            '  '.join(f'{key} {value:.4f}' for key, value in metrics.items())
        )
        return metrics
