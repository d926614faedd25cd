"""Which pixels a prediction misses and which it adds, object by object.

Shapes:   G objects, D predictions, h x w image.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from pycocotools import mask as coco_mask

# Kinds of pixels in an error map; 0 is no error. Colours stay apart for colour-blind readers.
MISSED, EXTRA, LOST_OBJECT, FALSE_OBJECT = 1, 2, 3, 4
COLOURS = {
    MISSED: (230, 97, 0),
    EXTRA: (0, 114, 220),
    LOST_OBJECT: (250, 190, 120),
    FALSE_OBJECT: (140, 200, 250),
}
NAMES = {
    MISSED: 'missed: inside the object, not in its mask',
    EXTRA: 'extra: in the mask, outside the object',
    LOST_OBJECT: 'object without a prediction',
    FALSE_OBJECT: 'prediction without an object',
}


@dataclass
class Objects:
    """Masks of one image.

    Attributes:
        rles: N compressed RLEs of the size of the image.
        categories: N category ids.
        scores: float array[N]; ones for ground truth.
        crowd: BoolArray[N]; crowds cannot be missed.
    """

    rles: list[dict]
    categories: list
    scores: np.ndarray
    crowd: np.ndarray

    def __len__(self) -> int:
        return len(self.rles)


def match(truth: Objects, found: Objects, threshold: float = 0.5) -> tuple[list[int], np.ndarray]:
    """Give every prediction, best score first, the free object of its category it overlaps most.

    Args:
        truth: Objects.
        found: Predictions.
        threshold: Least mask IoU of a pair.

    Returns:
        For each prediction the index of its object, or -1 (without one), or -2 (mostly inside a
        crowd); and the mask IoUs, float array[D, G].
    """
    partner = [-1] * len(found)
    if not len(truth) or not len(found):
        return partner, np.zeros((len(found), len(truth)))
    ious = coco_mask.iou(found.rles, truth.rles, truth.crowd.astype(np.uint8).tolist())
    ious = np.asarray(ious).reshape(len(found), len(truth))
    same = np.array([[a == b for b in truth.categories] for a in found.categories])
    usable = np.where(same, ious, 0.0)
    free = ~truth.crowd
    for i in np.argsort(-found.scores, kind='stable').tolist():
        candidates = np.where(free, usable[i], 0.0)
        best = int(candidates.argmax())
        if candidates[best] >= threshold:
            partner[i] = best
            free[best] = False
        elif (usable[i][truth.crowd] >= threshold).any():
            partner[i] = -2
    return partner, ious


def error_map(
    truth: Objects, found: Objects, partner: Sequence[int], size: tuple[int, int]
) -> np.ndarray:
    """Mark wrong pixels.

    Args:
        truth: Objects.
        found: Predictions.
        partner: As returned by ``match``.
        size: ``(h, w)``.

    Returns:
        uint8 array[h, w] of ``MISSED``, ``EXTRA``, ``LOST_OBJECT``, ``FALSE_OBJECT`` or 0. Of
        several errors at a pixel the one along a boundary is shown.
    """
    errors = np.zeros(size, np.uint8)
    lost = set(np.flatnonzero(~truth.crowd).tolist()) - set(partner)
    for j in sorted(lost):
        errors[coco_mask.decode(truth.rles[j]) > 0] = LOST_OBJECT
    for i in (i for i, j in enumerate(partner) if j == -1):
        errors[coco_mask.decode(found.rles[i]) > 0] = FALSE_OBJECT
    for i, j in enumerate(partner):
        if j >= 0:
            mask, real = (coco_mask.decode(rle) > 0 for rle in (found.rles[i], truth.rles[j]))
            errors[real & ~mask] = MISSED
            errors[mask & ~real] = EXTRA
    return errors


def draw_errors(
    image: np.ndarray, errors: np.ndarray, truth: Objects, size: tuple[int, int]
) -> np.ndarray:
    """Paint errors over a pale grey picture, with the objects' outlines.

    Args:
        image: uint8 array[h, w, 3], RGB.
        errors: uint8 array[h, w], from ``error_map``.
        truth: Objects, outlined in black.
        size: ``(height, width)`` of the drawing in pixels; errors thinner than its pixels stay
            visible.

    Returns:
        uint8 array[height, width, 3], RGB.
    """
    target = (size[1], size[0])
    grey = cv2.cvtColor(cv2.resize(image, target, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    canvas = np.repeat((140 + grey * 0.45).astype(np.uint8)[..., None], 3, axis=2)
    shrinking = size[0] < errors.shape[0]
    for kind in (LOST_OBJECT, FALSE_OBJECT, MISSED, EXTRA):
        share = (errors == kind).astype(np.float32)
        method = cv2.INTER_AREA if shrinking else cv2.INTER_NEAREST
        wrong = cv2.resize(share, target, interpolation=method) > 0.15
        # Whole objects shine through, thin bands do not.
        opacity = 1.0 if kind in (MISSED, EXTRA) else 0.5
        canvas[wrong] = (1 - opacity) * canvas[wrong] + opacity * np.array(COLOURS[kind])
    for rle in truth.rles:
        mask = cv2.resize(coco_mask.decode(rle), target, interpolation=cv2.INTER_NEAREST)
        outlines, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, outlines, -1, (20, 20, 20), 1, cv2.LINE_8)
    return canvas
