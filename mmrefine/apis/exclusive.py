"""Masks that do not overlap: every pixel belongs to one object at most."""

import numpy as np
import torch

from mmrefine.masks.crops import crop_masks
from mmrefine.masks.rle import boxed_masks_to_rle

from .predictor import Prediction


def exclusive_masks(found: Prediction) -> Prediction:
    """Give every pixel to one object at most, the best-scored one; what is left without is dropped.

    Args:
        found: Objects, best score first.
    """
    parts = crop_masks([rle['counts'] for rle in found.rles], found.size[0])
    crops = [(x, y, columns.T.astype(bool)) for x, y, columns in parts]
    boxes = np.array([(x, y, x + a.shape[1], y + a.shape[0]) for x, y, a in crops])  # (N, 4)
    for i, (x, y, pixels) in enumerate(crops):
        meets = (boxes[:i, :2] < boxes[i, 2:]).all(1) & (boxes[:i, 2:] > boxes[i, :2]).all(1)
        for j in np.flatnonzero(meets).tolist():
            xj, yj, better = crops[j]
            x1, y1 = np.maximum(boxes[i, :2], boxes[j, :2])
            x2, y2 = np.minimum(boxes[i, 2:], boxes[j, 2:])
            pixels[y1 - y : y2 - y, x1 - x : x2 - x] &= ~better[
                y1 - yj : y2 - yj, x1 - xj : x2 - xj
            ]
    kept = [i for i, (_, _, pixels) in enumerate(crops) if pixels.any()]
    rles = boxed_masks_to_rle(
        [torch.from_numpy(crops[i][2]) for i in kept],
        [crops[i][:2] for i in kept],
        found.size,
    )
    return Prediction(found.size, found.boxes[kept], found.scores[kept], found.labels[kept], rles)
