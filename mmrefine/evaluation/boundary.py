"""The band along the inside of a mask's outline, and Boundary IoU.

Paper:    Boundary IoU: Improving Object-Centric Image Segmentation Evaluation, CVPR 2021 (arXiv
          2103.16562).
Changes:  The reference erodes image-sized masks d times with a 3x3 square. Here one (2d + 1)-square
          erosion runs on the object's bounding box alone, which gives the same pixels.

Shapes:   h x w image, H x W bounding box of the object.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from mmrefine.masks.run_lengths import read_runs


class Crop(NamedTuple):
    """Part of an image-sized mask that holds all its pixels.

    Attributes:
        x: Left column, pixels.
        y: Top row, pixels.
        columns: uint8 array[W, H], the transposed pixels, 0 or 1.
    """

    x: int
    y: int
    columns: np.ndarray

    @property
    def pixels(self) -> np.ndarray:
        """BoolArray[H, W]."""
        return self.columns.T.astype(bool)


def band_width(size: tuple[int, int], ratio: float = 0.02) -> int:
    """Width d of the band in pixels: ``ratio`` of the image diagonal, at least 1.

    Args:
        size: ``(h, w)`` of the image.
        ratio: The paper's value is 0.02.
    """
    return max(1, int(round(ratio * float(np.hypot(*size)))))


def crop_masks(strings: Sequence[bytes], height: int) -> list[Crop]:
    """Decode masks inside their bounding boxes only.

    Args:
        strings: Compressed COCO counts of images of the same height.
        height: That height h.
    """
    runs, starts, _ = read_runs(strings)
    return [_crop(runs[a:b], height) for a, b in zip(starts[:-1].tolist(), starts[1:].tolist())]


def _crop(runs: np.ndarray, h: int) -> Crop:
    """Crop of one mask from its run lengths, which walk the image column by column."""
    ends = np.cumsum(runs)
    last = ends[1::2] - 1  # pixels of the runs of ones
    first = ends[:-1:2][: len(last)]
    kept = last >= first
    if not kept.all():
        first, last = first[kept], last[kept]
    if len(first) == 0:
        return Crop(0, 0, np.zeros((0, 0), np.uint8))
    x_first, y_first = np.divmod(first, h)
    x_last, y_last = np.divmod(last, h)
    x = int(x_first[0])
    width = int(x_last[-1]) + 1 - x
    if (x_last > x_first).any():  # a run that goes on in the next column touches both image edges
        y, rows = 0, h
    else:
        y = int(y_first.min())
        rows = int(y_last.max()) + 1 - y
    # The same runs, walking the box: zeros before each run of ones, and after the last.
    begin = (x_first - x) * rows + y_first - y
    end = (x_last - x) * rows + y_last - y + 1
    lengths = np.empty(2 * len(first) + 1, np.int64)
    lengths[0] = begin[0]
    lengths[1::2] = end - begin
    lengths[2:-1:2] = begin[1:] - end[:-1]
    lengths[-1] = width * rows - end[-1]
    values = np.zeros(len(lengths), np.uint8)
    values[1::2] = 1
    return Crop(x, y, np.repeat(values, lengths).reshape(width, rows))


def crop_of(mask: np.ndarray) -> Crop:
    """Cut a dense mask to its bounding box.

    Args:
        mask: array[h, w], nonzero inside.
    """
    binary = (mask != 0).astype(np.uint8)
    x, y, w, h = cv2.boundingRect(binary)
    return Crop(x, y, np.ascontiguousarray(binary[y : y + h, x : x + w].T))


def inner_band(crop: Crop, width: int) -> Crop:
    """Keep the pixels within ``width`` of the outline.

    Distances are Chebyshev's; the image edge counts as outline.

    Args:
        crop: A mask.
        width: Band width d, pixels.
    """
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
    """Lower mask IoUs to ``min(mask IoU, IoU of the inner bands)``.

    Args:
        mask_iou: float array[D, G].
        detected: D compressed counts.
        real: G compressed counts.
        crowd: BoolArray[G]; the columns of crowds keep their mask IoU.
        size: ``(h, w)`` of the image.
        ratio: Band width over image diagonal.
        threshold: Pairs below it keep their mask IoU, which is an upper bound: a matching with
            this threshold stays the same, and most bands need not be computed.

    Returns:
        float array[D, G].
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
