"""Confidence intervals of AP: images are drawn again, detections are matched only once.

An image drawn twice counts as two images with equal content. Its detections enter the curve of
precision over recall with weight 2, which gives the AP of scoring the two copies: between equal
detections either precision rises or recall stays. (Different detections of one score may take
another order among copies.)

Shapes:   N detections of a category, P images, T IoU thresholds, K categories, S draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mmrefine.results.detections import Detections
from mmrefine.results.ground_truth import GroundTruth

from .ap_table import NOTHING
from .matching import CategoryEval, split_by_category
from .protocols import Rules

RECALL_LEVELS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class CategoryMatches:
    """The matched detections of a category, best first."""

    image: np.ndarray  # int64 array[N], number of the image of each
    hit: np.ndarray  # BoolArray[T, N], whether it found an object
    miss: np.ndarray  # BoolArray[T, N], whether it found none; detections of crowds do neither
    objects: np.ndarray  # int64 array[P], objects to be found in each image

    def average_precision(self, weights: np.ndarray) -> float:
        """AP over all thresholds, -1 without objects.

        Args:
            weights: array[P], how often each image counts.
        """
        total = float(self.objects @ weights)
        if total == 0:
            return NOTHING
        each = weights[self.image]
        hits, misses = (np.cumsum(part * each, axis=1) for part in (self.hit, self.miss))
        precision = hits / np.maximum(hits + misses, np.spacing(1))
        # the best precision at this recall or a higher one, as COCOeval interpolates
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        values = []
        for found, best in zip(hits / total, precision):
            place = np.searchsorted(found, RECALL_LEVELS, side='left')
            values.append(np.append(best, 0.0)[place].mean())
        return float(np.mean(values))


def match_images(
    gt: GroundTruth, dt: Detections, iou_type: str, rules: Rules
) -> list[CategoryMatches]:
    """Match the detections of every category that has annotations.

    Args:
        gt: With masks, or boxes, as ``iou_type`` needs.
        dt: Likewise.
        iou_type: ``'bbox'``, ``'segm'`` or ``'boundary'``.
        rules: COCO's, with any caps and thresholds; objects of another size than
            ``areas['all']`` do not count.
    """
    rules = replace(rules, areas={'all': rules.areas['all']})
    gt.require(boxes=iou_type == 'bbox', masks=iou_type != 'bbox')
    dt.require(boxes=iou_type == 'bbox', masks=iou_type != 'bbox')
    scores = dt.scores if iou_type == 'bbox' or dt.mask_scores is None else dt.mask_scores
    areas = dt.areas(from_boxes=iou_type == 'bbox')
    if iou_type == 'bbox':
        dt = replace(dt, boxes=dt.filled_boxes(gt))
    number = {image: i for i, image in enumerate(gt.sizes)}
    evaluator = CategoryEval(iou_type, rules, {})
    found = []
    for category, gts, dts in split_by_category(gt, dt, scores, areas, rules):
        if not gts:
            continue
        evaluator.match(category, gts, dts)
        found.append(_collect([m for m in evaluator.evalImgs if m is not None], number))
    return found


def _collect(matches: Sequence[dict], number: dict[Any, int]) -> CategoryMatches:
    objects = np.zeros(len(number), np.int64)
    for match in matches:
        objects[number[match['image_id']]] = (match['gtIgnore'] == 0).sum()
    scores = np.concatenate([match['dtScores'] for match in matches])
    image = np.concatenate(
        [np.full(len(m['dtScores']), number[m['image_id']], np.int64) for m in matches]
    )
    taken = np.concatenate([match['dtMatches'] for match in matches], axis=1) != 0
    ignored = np.concatenate([match['dtIgnore'] for match in matches], axis=1).astype(bool)
    order = np.argsort(-scores, kind='mergesort')  # COCOeval's: ties in the order of the images
    taken, ignored = taken[:, order], ignored[:, order]
    return CategoryMatches(image[order], taken & ~ignored, ~taken & ~ignored, objects)


def draw_images(images: int, draws: int, seed: int = 0) -> np.ndarray:
    """Draw as many images as there are, with replacement: int64 array[S, P], times of each."""
    if images == 0:
        raise ValueError('the ground truth has no images')
    rng = np.random.default_rng(seed)
    return rng.multinomial(images, np.full(images, 1 / images), size=draws)


def mean_of_trainings(values: np.ndarray, seed: Sequence[int]) -> np.ndarray:
    """Mean AP over trainings of one model, as uncertain as so few trainings leave it.

    Two or three trainings drawn again with replacement would scatter far less than others would.
    Their mean is moved by Student's t with R - 1 degrees of freedom instead, times its standard
    error.

    Args:
        values: array[R, 1 + S], AP of R trainings on all images and on every draw of images.
        seed: Of the draws.

    Returns:
        array[1 + S]: the mean on all images, and on every draw, moved; -1 where a draw holds no
        object.
    """
    trainings, draws = values.shape
    mean = values.mean(axis=0)
    if trainings > 1:
        error = values[:, 0].std(ddof=1) / np.sqrt(trainings)
        moves = error * np.random.default_rng(seed).standard_t(trainings - 1, draws - 1)
        mean[1:] = np.where(mean[1:] == NOTHING, NOTHING, mean[1:] + moves)
    return mean


def average_precisions(matches: Sequence[CategoryMatches], weights: np.ndarray) -> np.ndarray:
    """Mean AP over the categories of every draw.

    Args:
        matches: One a category.
        weights: array[S, P].

    Returns:
        float64 array[S]; -1 where a draw holds no object.
    """
    result = np.full(len(weights), NOTHING)
    for s, each in enumerate(weights):
        values = [value for m in matches if (value := m.average_precision(each)) > NOTHING]
        if values:
            result[s] = np.mean(values)
    return result


def interval(values: np.ndarray) -> tuple[float, float]:
    """The range that holds the middle 95 % of the values."""
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)
