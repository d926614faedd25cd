"""Average precision and recall of detections, whether of files, models or videos."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from mmengine.logging import print_log

from mmrefine.results.detections import Detections
from mmrefine.results.ground_truth import GroundTruth, Id
from mmrefine.results.log import log_warning
from mmrefine.results.progress import progress_bar

from .ap_table import APTable
from .matching import match_with_pycocotools
from .matching_vernier import match_with_vernier
from .protocols import IOU_TYPES, Rules, require_choice

BACKENDS = {'pycocotools': match_with_pycocotools, 'vernier': match_with_vernier}


@dataclass
class Evaluation:
    """Numbers between 0 and 1, or -1 where there is no ground truth to find."""

    # ``<iou type>_<name>`` -> value, e.g. ``segm_AP``, ``boundary_AP_s``, ``segm_APr``
    numbers: dict[str, float] = field(default_factory=dict)
    # IoU type -> category id -> AP
    per_category: dict[str, dict[Id, float]] = field(default_factory=dict)
    # IoU type -> precision and recall
    tables: dict[str, APTable] = field(default_factory=dict)

    def named_categories(self, gt: GroundTruth) -> dict[str, float]:
        """``<iou type>_AP/<category name>`` -> AP."""
        names = distinct_names(gt)
        return {
            f'{iou_type}_AP/{names[category]}': value
            for iou_type, values in self.per_category.items()
            for category, value in values.items()
        }


def distinct_names(gt: GroundTruth) -> dict[Id, str]:
    """Category id -> name; names that occur twice get their id."""
    count = Counter(gt.categories.values())
    return {
        c: name if count[name] == 1 else f'{name} (id {c})' for c, name in gt.categories.items()
    }


def evaluate(
    gt: GroundTruth,
    dt: Detections,
    iou_types: Sequence[str] = ('bbox', 'segm', 'boundary'),
    rules: Rules | None = None,
    backend: str = 'pycocotools',
    box_areas: bool = False,
    show_progress: bool = False,
) -> Evaluation:
    """Average precision and recall.

    Args:
        gt: Ground truth.
        dt: Detections on its images.
        iou_types: Any of ``'bbox'``, ``'segm'``, ``'boundary'``.
        rules: The protocol; default: COCO's.
        backend: ``'pycocotools'``, or ``'vernier'`` if installed; equal numbers.
        box_areas: Take the areas that decide between small, medium and large masks from the boxes,
            as pycocotools and lvis do when results carry both; default: from the masks, as
            CocoMetric does.
    """
    rules = rules or Rules()
    unknown = [t for t in iou_types if t not in IOU_TYPES]
    if unknown or not iou_types:
        raise ValueError(f'iou_types must be some of {", ".join(IOU_TYPES)}; got {list(iou_types)}')
    require_choice('backend', backend, BACKENDS)
    if rules.federated and gt.federation is None:
        raise ValueError(
            f'{gt.name} was read without its LVIS fields: GroundTruth.load(federated=True)'
        )
    masks = any(t != 'bbox' for t in iou_types)
    gt.require(boxes='bbox' in iou_types, masks=masks)
    dt.require(boxes='bbox' in iou_types, masks=masks)
    if rules.federated:  # lvis-api sees no area of 0, neither in the annotations nor in the results
        gt = replace(gt, annotations=[a for a in gt.annotations if a['area'] > 0])
    _log_gaps(gt, dt)
    frequency = gt.federation.frequency if gt.federation else {}
    result = Evaluation()
    for iou_type in iou_types:
        scores = dt.scores
        if iou_type != 'bbox' and dt.mask_scores is not None:
            scores = dt.mask_scores
        areas = dt.areas(from_boxes=iou_type == 'bbox' or box_areas)
        kept = admitted(gt, dt, scores, rules)
        if rules.federated:  # after the caps, which count these detections
            kept = kept[areas[kept] > 0]
        chosen, areas = dt.select(kept), areas[kept]
        if iou_type == 'bbox':
            chosen = replace(chosen, boxes=chosen.filled_boxes(gt))
        with progress_bar(iou_type, len(gt.categories), show_progress) as step:
            table = BACKENDS[backend](gt, chosen, scores[kept], areas, iou_type, rules, step)
        for name, value in table.numbers(rules, frequency).items():
            result.numbers[f'{iou_type}_{name}'] = value
        result.per_category[iou_type] = table.per_category(rules)
        result.tables[iou_type] = table
    return result


def admitted(gt: GroundTruth, dt: Detections, scores: np.ndarray, rules: Rules) -> np.ndarray:
    """Find the detections that count under a protocol: int64 array, ascending indices."""
    kept = np.arange(len(dt))
    if rules.per_image is not None:
        kept = _best(kept, dt.image_ids, scores, rules.per_image)
    if rules.per_category is not None:
        kept = _best(kept, dt.category_ids, scores, rules.per_category)
    if rules.federated:
        # A category that was not looked for in an image can be neither right nor wrong there.
        asked = {image: set(categories) for image, categories in gt.federation.absent.items()}
        for a in gt.annotations:
            asked[a['image_id']].add(a['category_id'])
        known = [i for i in kept.tolist() if dt.category_ids[i] in asked[dt.image_ids[i]]]
        kept = np.array(known, np.int64)
    return kept


def _best(kept: np.ndarray, groups: Sequence[Id], scores: np.ndarray, most: int) -> np.ndarray:
    """Keep the ``most`` best of each group; the earlier of equal scores."""
    seen: dict[Id, int] = {}
    best = []
    for i in kept[np.argsort(-scores[kept], kind='stable')].tolist():
        seen[groups[i]] = seen.get(groups[i], 0) + 1
        if seen[groups[i]] <= most:
            best.append(i)
    return np.sort(np.array(best, np.int64))


def _log_gaps(gt: GroundTruth, dt: Detections) -> None:
    if not gt.annotations:
        log_warning(f'{gt.name} has no annotations: every number is -1')
    silent = len(gt.sizes) - len(set(dt.image_ids))
    if silent:
        print_log(f'{silent} of {len(gt.sizes)} images have no detections', logger='current')
