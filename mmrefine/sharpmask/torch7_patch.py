"""Training patches as the Torch7 code cuts, resizes and labels them.

Paper:    DeepMask, https://arxiv.org/abs/1506.06204
Origin:   facebookresearch/deepmask (DataSampler.lua), torch/image (``image.scale``); written anew.

Units:    crops are (x, y, side, side) in image pixels, x and y the left and top edge.
"""

import cv2
import numpy as np
from pycocotools import mask as coco_mask

REACH = 32  # windows that a polygon may extend beyond its label's


def scale_square(image: np.ndarray, size: int) -> np.ndarray:
    """Resize as ``image.scale`` does: box averages to shrink, aligned corners to enlarge.

    Args:
        image: float32 array[n, n] or array[n, n, 3].
        size: Side of the result.
    """
    side = len(image)
    if side >= size:
        return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    # cv2 keeps only 5 bits of a sampling position
    position = np.arange(size, dtype=np.float32) * (side - 1) / (size - 1)
    weights = np.maximum(1 - np.abs(position[:, None] - np.arange(side, dtype=np.float32)), 0)
    columns = np.tensordot(weights, image, (1, 1))  # (size, side, ...)
    return np.tensordot(weights, columns, (1, 1))  # (size, size, ...)


def cut_square(image: np.ndarray, corner: np.ndarray, side: int, outside: float) -> np.ndarray:
    """Whole pixels ``corner`` (x, y) to ``corner + side``; ``outside`` beyond the image."""
    cut = np.full((side, side, *image.shape[2:]), outside, np.float32)
    x, y = corner
    left, top = max(x, 0), max(y, 0)
    part = image[top : max(y + side, 0), left : max(x + side, 0)]
    cut[top - y : top - y + len(part), left - x : left - x + part.shape[1]] = part
    return cut


def whole_crop(crop: np.ndarray, shape: tuple[int, ...], framed: bool) -> tuple[np.ndarray, int]:
    """Whole-pixel corner (x, y) and side of a crop.

    Args:
        crop: As drawn.
        shape: (height, width, ...) of the image.
        framed: A mask sample, whose crop is rounded. Crops of score samples are cut down around a
            centre that is counted from 1, which moves them by up to a pixel.
    """
    side = crop[2]
    if framed:
        return np.floor(crop[:2] + 0.5).astype(int), int(np.floor(side + 0.5))
    middle = np.clip(crop[:2] + side / 2, 1, (shape[1], shape[0]))
    return np.floor(middle).astype(int) - 1 - int(side / 2), int(side)


def label_of_polygons(
    polygons: list, corner: np.ndarray, side: int, share: float, size: int
) -> np.ndarray:
    """Label of the central window of a crop: polygons scaled to the label, then rasterised.

    Parity: the corner counts from 1 by the time the window is derived from it, so labels lie one
    image pixel to the upper left of the object in the patch.

    Args:
        polygons: COCO polygons in image pixels.
        corner: (x, y) of the crop.
        side: Side of the crop.
        share: Side of the window over the side of the crop.
        size: Side of the label.

    Returns:
        uint8 array[size, size].
    """
    window = side * share
    scale = size / window
    first = np.floor((corner + 1 + (side - window) / 2) * scale + 0.5).astype(int)
    scaled = [np.asarray(polygon, float).reshape(-1, 2) * scale for polygon in polygons]
    # An object fills half its window; points far outside would need a canvas of gigabytes.
    scaled = [one.clip(first - REACH * size, first + REACH * size) for one in scaled]
    # COCO's rasteriser rounds negative coordinates otherwise: draw on a canvas that has none
    origin = np.minimum(first, np.floor(np.min([one.min(0) for one in scaled], axis=0))).astype(int)
    width, height = first + size - origin
    moved = [(one - origin).ravel().tolist() for one in scaled]
    mask = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(moved, int(height), int(width))))
    return mask[height - size :, width - size :]
