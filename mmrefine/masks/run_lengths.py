"""Read COCO's run-length strings without decoding them to pixels.

A string packs the lengths of alternating runs (zeros first) walking the mask column by column:
five bits a character, bit 5 says that more follow, and from the fourth run on the difference to
the run two places before is stored (format: cocoapi ``maskApi.c``).

Shapes:   N strings, C characters of all strings together, R runs of all strings together.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

MAX_CHARACTERS = 7  # of one 32-bit run
# pycocotools stores every point of an outline, so memory grows with its length in pixels.
FARTHEST = 1e5


def read_runs(strings: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unpack many strings at once.

    Args:
        strings: N compressed counts.

    Returns:
        runs: int64 array[R], run lengths of all strings one after the other.
        starts: int64 array[N + 1], where each string's runs begin; the last entry is R.
        readable: BoolArray[N], false for a string that is empty, breaks off inside a number, has
            characters outside the code or runs that do not fit 32 bits. Its runs mean nothing.
    """
    lengths = np.fromiter(map(len, strings), np.int64, len(strings))
    characters = np.frombuffer(b''.join(strings), np.uint8).astype(np.int64) - 48
    ends = np.cumsum(lengths)
    readable = lengths > 0
    owner = np.repeat(np.arange(len(strings)), lengths)
    readable[owner[(characters < 0) | (characters > 63)]] = False
    last = (characters & 0x20) == 0
    final = ends[lengths > 0] - 1
    readable[owner[final[~last[final]]]] = False
    # A number never reaches into the next string, so one damaged string leaves the others intact.
    last[final] = True

    stops = np.flatnonzero(last)
    begins = np.append(0, stops[:-1] + 1) if len(stops) else stops
    size = stops - begins + 1
    readable[owner[stops[size > MAX_CHARACTERS]]] = False
    place = np.minimum(np.arange(len(characters)) - np.repeat(begins, size), MAX_CHARACTERS)
    digits = (characters & 0x1F) << (5 * place)
    values = np.add.reduceat(digits, begins) if len(begins) else digits
    negative = (characters[stops] & 0x10) != 0
    values -= np.where(negative, 1 << (5 * np.minimum(size, MAX_CHARACTERS)), 0)

    starts = np.append(0, np.cumsum(np.bincount(owner[stops], minlength=len(strings))))
    runs = _sum_differences(values, starts)
    outside = (runs < 0) | (runs >= 1 << 32)
    readable[owner[stops[outside]]] = False
    return runs, starts, readable


def _sum_differences(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Undo the differences: runs 1, 3, 5, ... and 2, 4, 6, ... of each string are running sums."""
    runs = values.copy()
    bounds = starts.tolist()
    for a, b in zip(bounds[:-1], bounds[1:]):
        np.cumsum(values[a + 1 : b : 2], out=runs[a + 1 : b : 2])
        np.cumsum(values[a + 2 : b : 2], out=runs[a + 2 : b : 2])
    return runs


def misfits(strings: Sequence[bytes], areas: np.ndarray, chunk: int = 2048) -> np.ndarray:
    """Find strings that cannot be the mask of an image of the given number of pixels.

    Args:
        strings: N compressed counts.
        areas: int64 array[N], height x width.
        chunk: Strings read at once; bounds the memory.

    Returns:
        int64 array, the indices of the unreadable strings and of those whose runs do not add up.
    """
    found = []
    for i in range(0, len(strings), chunk):
        runs, starts, readable = read_runs(strings[i : i + chunk])
        total = np.append(0, np.cumsum(runs))[starts]
        bad = ~readable | (np.diff(total) != areas[i : i + chunk])
        found.append(np.flatnonzero(bad) + i)
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def present(strings: Iterable[bytes | None]) -> list[bytes]:
    """Leave out what is None."""
    return [counts for counts in strings if counts is not None]


def pixel_counts(strings: Sequence[bytes], chunk: int = 2048) -> np.ndarray:
    """Count the pixels of masks.

    Args:
        strings: N compressed counts.
        chunk: Strings read at once; bounds the memory.

    Returns:
        int64 array[N].
    """
    areas = [np.zeros(0, np.int64)]
    for i in range(0, len(strings), chunk):
        runs, starts, _ = read_runs(strings[i : i + chunk])
        order = np.arange(len(runs)) - np.repeat(starts[:-1], np.diff(starts))
        areas.append(np.diff(np.append(0, np.cumsum(runs * (order % 2)))[starts]))
    return np.concatenate(areas)


class MaskError(ValueError):
    """No mask; ``kind`` is ``'type'``, ``'points'``, ``'far'`` or ``'rle'``."""

    def __init__(self, kind: str, sentence: str) -> None:
        super().__init__(sentence)
        self.kind = kind


def to_counts(segmentation: Any, size: tuple[int, int]) -> bytes:
    """Bring a COCO ``segmentation`` of any form to compressed counts.

    Args:
        segmentation: Polygons ``[[x, y, ...], ...]`` in pixels, or an RLE whose counts are a
            string, bytes or a list of run lengths.
        size: ``(h, w)`` of the image.

    Returns:
        The compressed counts; strings are not decoded.

    Raises:
        MaskError: See ``check_polygons``; or an RLE of another size, or something else altogether.
    """
    if isinstance(segmentation, Mapping):
        return _rle_counts(segmentation, size)
    check_polygons(segmentation, size)
    parts = coco_mask.frPyObjects([list(polygon) for polygon in segmentation], *size)
    return coco_mask.merge(parts)['counts']


def check_polygons(segmentation: Any, size: tuple[int, int]) -> None:
    """Check that polygons can be drawn.

    Raises:
        MaskError: No list of flat lists of finite numbers, a polygon of fewer than three points or
            with half a point, or one far outside of the image.
    """
    if not isinstance(segmentation, (list, tuple)) or not segmentation:
        raise MaskError(
            'type', f'segmentation is {_shorten(segmentation)}: expected polygons or an RLE'
        )
    for i, polygon in enumerate(segmentation):
        if not isinstance(polygon, (list, tuple)):
            raise MaskError(
                'type',
                f'segmentation[{i}] is {_shorten(polygon)}: expected a list of polygons, each a '
                'flat list [x, y, x, y, ...]',
            )
        if not _finite(polygon):
            raise MaskError('type', f'polygon {i} has a coordinate that is not a finite number')
    limit = max(FARTHEST, 2 * max(size))
    for i, polygon in enumerate(segmentation):
        if len(polygon) % 2:
            raise MaskError(
                'points', f'polygon {i} has {len(polygon)} coordinates: one of a pair is missing'
            )
        if len(polygon) < 6:
            # pycocotools would take four numbers for a box and draw something else.
            raise MaskError(
                'points',
                f'polygon {i} has {len(polygon) // 2} points, at least 3 are needed: remove it or '
                'give the object a real outline',
            )
        farthest = max(polygon, key=abs)
        if abs(farthest) > limit:
            value = f'{farthest:g}' if isinstance(farthest, float) else _shorten(farthest)
            raise MaskError(
                'far',
                f'polygon {i} has the coordinate {value}, far outside of the image of '
                f'{size[0]} x {size[1]} pixels: give coordinates in pixels of the image',
            )


def _rle_counts(rle: Mapping, size: tuple[int, int]) -> bytes:
    if 'counts' not in rle or 'size' not in rle:
        raise MaskError('rle', f'the RLE has the keys {sorted(rle)}: expected "size" and "counts"')
    if not isinstance(rle['size'], Iterable) or list(rle['size']) != list(size):
        raise MaskError(
            'rle',
            f'the RLE has the size {_shorten(rle["size"])}, the image is {list(size)} (height, '
            'width): masks must be given at the size of the original image',
        )
    counts = rle['counts']
    if isinstance(counts, str):
        return _ascii(counts)
    if isinstance(counts, bytes):
        return counts
    if not isinstance(counts, (list, tuple)) or not _finite(counts):
        raise MaskError(
            'rle',
            f'the RLE counts are {_shorten(counts)}: expected a string or a list of run lengths',
        )
    whole = all(count == int(count) for count in counts)
    if not counts or sum(counts) != size[0] * size[1] or min(counts) < 0 or not whole:
        raise MaskError(
            'rle', f'the RLE counts {_shorten(counts)} do not add up to {size[0]} x {size[1]}'
        )
    listed = [int(count) for count in counts]
    return coco_mask.frPyObjects({'size': list(size), 'counts': listed}, *size)['counts']


def _ascii(counts: str) -> bytes:
    """Encode a run-length string, and recognise what other programs write in its place."""
    remedy = None
    if counts[:2] in ("b'", 'b"'):
        remedy = "are the printed form of bytes: write counts.decode('ascii'), not str(counts)"
    elif re.fullmatch(r'[\d\s,]+', counts) and re.search(r'[\s,]', counts):
        remedy = (
            'are numbers, as in submissions to Kaggle (pairs of start and length): convert them to '
            "COCO's run lengths, or to polygons"
        )
    elif not counts.isascii():
        remedy = 'are no run-length string'
    if remedy is not None:
        raise MaskError('rle', f'the RLE counts {_shorten(counts)} {remedy}')
    return counts.encode('ascii')


def _finite(values: Sequence) -> bool:
    """Whether these are finite numbers and nothing else: no None, no text, no nested lists."""
    if set(map(type, values)) <= {int, float}:
        # COCO holds tens of millions of coordinates: no Python step for each of them.
        try:
            return abs(sum(values)) < math.inf
        except OverflowError:  # an integer of more than 308 digits beside fractions
            return False
    try:
        numbers = np.array(values)
    except ValueError:  # nested lists of different lengths
        return False
    return numbers.ndim == 1 and numbers.dtype.kind in 'iuf' and bool(np.isfinite(numbers).all())


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f'{text[:37]}...'
