"""Read the box and the mask of an annotation or a result."""

import math
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mmrefine.masks.run_lengths import to_counts, undecodable

CHUNK = 4096  # masks decoded at once
FARTHEST = 1e30  # pixels; models compute in float32, where more may be infinite

Report = Callable[[str], None]


def refuse(sentence: str) -> None:
    """Raise ValueError: what readers do with the first fault."""
    raise ValueError(sentence)


class BoxError(ValueError):
    """No box; ``kind`` is ``'type'``, ``'infinite'`` or ``'inverted'``."""

    def __init__(self, kind: str, sentence: str) -> None:
        super().__init__(sentence)
        self.kind = kind


def read_box(box: Any) -> tuple[float, float, float, float]:
    """Take a box x, y, w, h in pixels.

    Raises:
        BoxError: Not four finite numbers, or a negative width or height; the name of the entry goes
            before the message.
    """
    try:
        # A dict would give its keys, and `float` would take text.
        listed = () if isinstance(box, Mapping) else box
        numbers = [float(value) for value in listed if not isinstance(value, str)]
    except OverflowError:  # an integer of more than 308 digits
        numbers = [math.inf] * 4
    except (TypeError, ValueError):
        numbers = []
    kind, wanted = 'infinite', 'expected four finite numbers x, y, w, h'
    if len(numbers) != 4:
        kind = 'type'
    elif all(abs(value) <= FARTHEST for value in numbers):  # not so of NaN
        x, y, w, h = numbers
        if w >= 0 and h >= 0:
            return x, y, w, h
        kind = 'inverted'
        wanted = (
            'a negative width or height (x2 < x1 or y2 < y1); expected x, y, w, h with w >= 0 and '
            'h >= 0'
        )
    raise BoxError(kind, f'has the bbox {box!r}: {wanted}')


def is_number(value: Any) -> bool:
    """Whether a value is a finite number, NumPy's too; integers too long for a float are none."""
    value = value.item() if isinstance(value, np.generic) else value
    return isinstance(value, (int, float)) and abs(value) <= sys.float_info.max


class MaskReader:
    """Reads ``segmentation`` fields as compressed counts; strings are decoded to check them.

    Args:
        report: Gets one sentence a fault; by default the first one is raised as ValueError.
        rle_only: Whether polygons and uncompressed run lengths are a fault.
    """

    def __init__(self, report: Report = refuse, rle_only: bool = False) -> None:
        self.report = report
        self.rle_only = rle_only
        self._unchecked: list[tuple[str, bytes, tuple[int, int]]] = []

    def read(self, label: str, segmentation: Any, size: tuple[int, int]) -> bytes | None:
        """Take an RLE or polygons of an image of ``size`` (h, w) as compressed counts; None if
        there is no mask or a faulty one. ``label`` names the entry in messages."""
        if segmentation is None or segmentation == []:  # SAHI and FiftyOne write an empty list
            return None
        if self.rle_only and not isinstance(segmentation, Mapping):
            self.report(f'{label}: the segmentation must be an RLE object')
            return None
        if self.rle_only and isinstance(segmentation.get('counts'), list):
            self.report(f'{label}: the counts are a list: servers take compressed counts, as text')
            return None
        try:
            counts = to_counts(segmentation, size, decodable=False)
        except ValueError as error:
            self.report(f'{label}: {error}')
            return None
        self._unchecked.append((label, counts, size))
        if len(self._unchecked) >= CHUNK:
            self.check()
        return counts

    def check(self) -> None:
        """Report the masks read since the last check whose runs do not make up their image."""
        waiting, self._unchecked = self._unchecked, []
        for i in undecodable([counts for _, counts, _ in waiting], [size for *_, size in waiting]):
            label, _, (h, w) = waiting[i]
            self.report(f'{label}: the RLE cannot be decoded to {h} x {w} pixels')
