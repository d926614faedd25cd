"""Overlaps and greedy matching of detections and objects, as COCO defines them.

Origin:   pycocotools ``COCOeval.evaluateImg``; same matches

Shapes:   D detections and G objects of an image, T IoU thresholds, A groups of objects that count.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

UNMATCHED = -1


def pairwise_ious(
    found: Sequence[Any], truth: Sequence[Any], crowd: np.ndarray | None = None
) -> np.ndarray:
    """Intersection over union of D with G RLEs, or boxes x, y, w, h: float64 array[D, G].

    With a crowd (bool array[G]), the intersection is divided by the detection alone.
    """
    if not found or not truth:
        return np.zeros((len(found), len(truth)))
    flags = np.zeros(len(truth), np.uint8) if crowd is None else crowd.astype(np.uint8)
    return np.asarray(coco_mask.iou(list(found), list(truth), flags))


def match_greedily(
    ious: np.ndarray, crowd: np.ndarray, counted: np.ndarray, thresholds: np.ndarray
) -> np.ndarray:
    """Give every detection, best first, the free object that it overlaps most.

    Of equal IoUs the later object is taken, and objects that do not count only if none that counts
    reaches the threshold. Crowds can be taken again and again.

    IoUs array[D, G], crowd bool array[G], counted bool array[A, G] and thresholds array[T] -> int64
    array[A, T, D], index of the object, -1 where there is none.
    """
    limits = np.minimum(thresholds, 1 - 1e-10)
    objects = ious.shape[1]
    partners = np.full((len(counted), len(limits), len(ious)), UNMATCHED)
    if ious.size == 0:
        return partners
    free = np.ones((len(counted), len(limits), objects), bool)
    for d in np.flatnonzero(ious.max(1) >= limits.min()):
        usable = free & (ious[d] >= limits[:, None])  # (A, T, G)
        for group in (counted, ~counted):
            candidates = usable & group[:, None]
            # argmax finds the first of equals; in the reversed row that is the last one.
            best = np.where(candidates, ious[d], -1.0)[..., ::-1].argmax(2)  # (A, T)
            a, t = np.nonzero(candidates.any(2))
            g = objects - 1 - best[a, t]
            partners[a, t, d] = g
            free[a, t, g] = crowd[g]
            usable[a, t] = False  # matched: the second group is not asked
    return partners
