"""Masks cut to their bounding boxes, decoded inside them only.

Shapes:   h x w image, H x W bounding box of the object.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

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


def crop_of(mask: np.ndarray) -> Crop:
    """Cut a dense mask, array[h, w], nonzero inside, to its bounding box."""
    binary = (mask != 0).astype(np.uint8)
    x, y, w, h = cv2.boundingRect(binary)
    return Crop(x, y, np.ascontiguousarray(binary[y : y + h, x : x + w].T))
