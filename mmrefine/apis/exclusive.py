"""Masks that do not overlap: every pixel belongs to one object at most."""

import numpy as np
from pycocotools import mask as coco_mask

from mmrefine.masks.crops import subtract_masks

from .predictor import Prediction


def exclusive_masks(found: Prediction) -> Prediction:
    """Give every pixel to one object at most, the best-scored one; what is left without is dropped.

    Args:
        found: Objects, best score first.
    """
    corners = coco_mask.toBbox(found.rles).reshape(-1, 4)  # x1, y1, x2, y2
    corners[:, 2:] += corners[:, :2]
    rles = []
    for i, rle in enumerate(found.rles):
        better = corners[:i]
        meets = (better[:, :2] < corners[i, 2:]).all(1) & (better[:, 2:] > corners[i, :2]).all(1)
        rles.append(subtract_masks(rle, [found.rles[j] for j in np.flatnonzero(meets)]))
    kept = [i for i, rle in enumerate(rles) if coco_mask.area(rle)]
    return Prediction(
        found.size,
        found.boxes[kept],
        found.scores[kept],
        found.labels[kept],
        [rles[i] for i in kept],
    )
