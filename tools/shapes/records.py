"""Annotation records shared by the formats: exact masks as run lengths, boxes, areas."""

from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from .scene import CLASSES

PALETTE = [
    (220, 20, 60),
    (255, 190, 0),
    (0, 110, 230),
    (255, 77, 255),
    (60, 190, 60),
    (130, 70, 220),
    (150, 150, 160),
    (0, 190, 190),
]


def categories(names: tuple[str, ...] = CLASSES, first_id: int = 1) -> list[dict[str, Any]]:
    """List category records with ids counted from ``first_id``."""
    return [
        {'id': first_id + k, 'name': name, 'supercategory': 'shape'} for k, name in enumerate(names)
    ]


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """Encode bool[H, W] as compressed COCO run lengths with text counts."""
    rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return {'size': [int(side) for side in rle['size']], 'counts': rle['counts'].decode()}


def mask_box(mask: np.ndarray) -> list[int]:
    """Return [x, y, width, height] of the pixels set, in pixels."""
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [int(xs[0]), int(ys[0]), int(xs[-1] - xs[0] + 1), int(ys[-1] - ys[0] + 1)]


def mask_record(mask: np.ndarray) -> dict[str, Any]:
    """Describe a mask the way every COCO-like annotation does."""
    return {
        'segmentation': encode_mask(mask),
        'bbox': mask_box(mask),
        'area': int(mask.sum()),
        'iscrowd': 0,
    }
