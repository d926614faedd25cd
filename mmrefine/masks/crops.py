"""Masks cut to their bounding boxes, decoded inside them only, moved, and cut by others.

Shapes:   h x w image, H x W bounding box of the object.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from pycocotools import mask as coco_mask

from .rle import RLE, boxed_masks_to_rle, toggles_to_rle
from .roi import roi_masks_to_rle
from .run_lengths import read_runs


class Crop(NamedTuple):
    """Part of an image-sized mask that holds all its pixels."""

    x: int  # left column, pixels
    y: int  # top row, pixels
    columns: np.ndarray  # uint8 array[W, H], the transposed pixels, 0 or 1

    @property
    def pixels(self) -> np.ndarray:
        """BoolArray[H, W]."""
        return self.columns.T.astype(bool)


def crop_masks(strings: Sequence[bytes], height: int) -> list[Crop]:
    """Decode compressed counts of images of one height inside their bounding boxes only."""
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


def flip_masks(masks: Sequence[RLE], direction: str) -> list[RLE]:
    """Mirror masks of one size; ``direction`` is horizontal, vertical or diagonal (both)."""
    if not masks:
        return []
    h, w = masks[0]['size']
    pixels, corners = [], []
    for x, y, columns in crop_masks([mask['counts'] for mask in masks], h):
        if direction in ('horizontal', 'diagonal'):
            x, columns = w - x - len(columns), columns[::-1]
        if direction in ('vertical', 'diagonal'):
            y, columns = h - y - columns.shape[1], columns[:, ::-1]
        pixels.append(torch.from_numpy(columns.T.astype(bool)))
        corners.append((x, y))
    return boxed_masks_to_rle(pixels, corners, (h, w))


def move_masks(
    masks: Sequence[RLE],
    offset: tuple[int, int],
    image_size: tuple[int, int],
    scale: tuple[float, float] = (1.0, 1.0),
) -> list[RLE]:
    """Bring masks of a part of an image to the image.

    Args:
        masks: RLEs of one size.
        offset: (x, y) of the part's first pixel in the image.
        image_size: ``(h, w)`` of the image.
        scale: Pixels of the image over those of the part, (x, y); enlarged outlines run between
            the centres of pixels inside and outside.
    """
    if not masks:
        return []
    crops = crop_masks([mask['counts'] for mask in masks], masks[0]['size'][0])
    (dx, dy), (sx, sy) = offset, scale
    if (sx, sy) == (1, 1):
        pixels = [torch.from_numpy(crop.pixels) for crop in crops]
        return boxed_masks_to_rle(pixels, [(c.x + dx, c.y + dy) for c in crops], image_size)
    moved = []
    for x, y, columns in crops:
        w, h = columns.shape
        grid = torch.zeros(1, max(h, 1), max(w, 1))  # (1, h, w); roi_masks_to_rle resizes it
        grid[0, :h, :w] = torch.from_numpy(columns.T)
        box = [x * sx + dx, y * sy + dy, (x + w) * sx + dx, (y + h) * sy + dy]
        moved += roi_masks_to_rle(grid, torch.tensor([box]), image_size)
    return moved


def subtract_masks(mask: RLE, others: Sequence[RLE]) -> RLE:
    """Pixels of a mask that none of the others holds, all of one size; nothing is decoded."""
    if not others:
        return mask
    common = coco_mask.merge([mask, coco_mask.merge(list(others))], intersect=True)
    runs, (_, middle, _), _ = read_runs([mask['counts'], common['counts']])
    # Where a pixel of both masks begins or ends, their boundaries cancel out.
    ends = np.concatenate([np.cumsum(runs[:middle]), np.cumsum(runs[middle:])])
    return toggles_to_rle(ends, np.zeros_like(ends), 1, mask['size'])[0]


def crop_of(mask: np.ndarray) -> Crop:
    """Cut a dense mask, array[h, w], nonzero inside, to its bounding box."""
    binary = (mask != 0).astype(np.uint8)
    x, y, w, h = cv2.boundingRect(binary)
    return Crop(x, y, np.ascontiguousarray(binary[y : y + h, x : x + w].T))
