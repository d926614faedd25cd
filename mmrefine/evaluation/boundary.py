"""The band along the inside of a mask's outline, and Boundary IoU.

Paper:    Boundary IoU: Improving Object-Centric Image Segmentation Evaluation, CVPR 2021 (arXiv
          2103.16562).
Changes:  The reference erodes image-sized masks d times with a 3x3 square. Here one (2d + 1)-square
          erosion runs on the object's bounding box alone, which gives the same pixels.

Shapes:   D detections, G ground-truth objects, h x w image.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from mmrefine.masks.crops import Crop, crop_masks


def band_width(size: tuple[int, int], ratio: float = 0.02) -> int:
    """Width d of the band in pixels: ``ratio`` (the paper's is 0.02) of the diagonal of an image
    (h, w), at least 1."""
    return max(1, int(round(ratio * float(np.hypot(*size)))))


def inner_band(crop: Crop, width: int) -> Crop:
    """Keep the pixels within ``width`` pixels of the outline; the image edge counts as outline,
    distances are Chebyshev's."""
    if min(crop.columns.shape) <= 2 * width:  # no pixel is further inside
        return crop
    # One (2d + 1)-square erosion equals d erosions with 3 x 3 squares.
    square = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    core = cv2.erode(crop.columns, square, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return Crop(crop.x, crop.y, crop.columns - core)


def crop_iou(a: Crop, b: Crop) -> float:
    """Intersection over union of two cropped masks of the same image (0 when both are empty)."""
    x, y = max(a.x, b.x), max(a.y, b.y)
    x_end = min(a.x + a.columns.shape[0], b.x + b.columns.shape[0])
    y_end = min(a.y + a.columns.shape[1], b.y + b.columns.shape[1])
    shared = 0
    if x_end > x and y_end > y:
        in_a = a.columns[x - a.x : x_end - a.x, y - a.y : y_end - a.y]
        in_b = b.columns[x - b.x : x_end - b.x, y - b.y : y_end - b.y]
        shared = cv2.countNonZero(in_a & in_b)
    union = _area(a) + _area(b) - shared
    return shared / union if union else 0.0


def _area(crop: Crop) -> int:
    return cv2.countNonZero(crop.columns) if crop.columns.size else 0


def boundary_iou(
    mask_iou: np.ndarray,
    detected: Sequence[bytes],
    real: Sequence[bytes],
    crowd: np.ndarray,
    size: tuple[int, int],
    ratio: float = 0.02,
    threshold: float = 0.0,
) -> np.ndarray:
    """Lower the mask IoUs array[D, G] to ``min(mask IoU, IoU of the inner bands)``.

    Args:
        detected, real: D and G compressed counts of an image of ``size`` (h, w).
        crowd: BoolArray[G]; the columns of crowds keep their mask IoU.
        ratio: Band width over image diagonal.
        threshold: Pairs below it keep their mask IoU, which is an upper bound: a matching with this
            threshold stays the same, and most bands need not be computed.
    """
    candidates = (mask_iou >= threshold) & (mask_iou > 0) & ~crowd
    pairs = np.argwhere(candidates)
    if len(pairs) == 0:
        return mask_iou
    width = band_width(size, ratio)
    rows, columns = np.unique(pairs[:, 0]), np.unique(pairs[:, 1])
    crops = crop_masks([detected[i] for i in rows] + [real[j] for j in columns], size[0])
    bands = [inner_band(crop, width) for crop in crops]
    of_row = dict(zip(rows.tolist(), bands))
    of_column = dict(zip(columns.tolist(), bands[len(rows) :]))
    result = mask_iou.copy()
    for i, j in pairs.tolist():
        result[i, j] = min(result[i, j], crop_iou(of_row[i], of_column[j]))
    return result
