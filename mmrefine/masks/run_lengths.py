"""Read COCO masks: the one guard before pycocotools, run lengths, dense masks.

An RLE string packs the lengths of alternating runs (zeros first) walking the mask column by column:
five bits a character, bit 5 says that more follow, and from the fourth run on the difference to
the run two places before is stored (format: cocoapi ``maskApi.c``). pycocotools trusts what it is
given: it returns uninitialised memory for strings that break off or do not add up, and polygons
far outside of the image end in a segmentation fault.

Shapes:   N strings, C characters of all strings together, R runs of all strings together,
          h x w image.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor

from .rle import RLE

MAX_CHARACTERS = 7  # of one 32-bit run
CHUNK = 2048  # strings read at once; bounds the memory
# pycocotools stores five points for every pixel of an outline, 20 bytes each.
FARTHEST = 1e4  # pixels
LONGEST = 5e6  # pixels


def read_runs(strings: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unpack N compressed counts at once.

    Returns:
        Run lengths of all strings one after the other, int64 array[R]; where each string's runs
        begin, int64 array[N + 1], the last entry is R; and BoolArray[N], false for a string that is
        empty, breaks off inside a number, has characters outside the code or runs that do not fit
        32 bits. Its runs mean nothing.
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


def undecodable(strings: Sequence[bytes], sizes: Sequence[tuple[int, int]]) -> list[int]:
    """Positions of the strings that cannot be masks of images of these sizes, N times ``(h, w)``:
    unreadable ones, and those whose runs do not add up."""
    areas = np.array(sizes, np.int64).reshape(-1, 2).prod(1)
    found: list[int] = []
    for i in range(0, len(strings), CHUNK):
        runs, starts, readable = read_runs(strings[i : i + CHUNK])
        total = np.append(0, np.cumsum(runs))[starts]
        bad = ~readable | (np.diff(total) != areas[i : i + CHUNK])
        found += (np.flatnonzero(bad) + i).tolist()
    return found


def present(strings: Iterable[bytes | None]) -> list[bytes]:
    """Leave out what is None."""
    return [counts for counts in strings if counts is not None]


def pixel_counts(strings: Sequence[bytes]) -> np.ndarray:
    """Count the pixels of masks: N compressed counts -> int64 array[N]."""
    areas = [np.zeros(0, np.int64)]
    for i in range(0, len(strings), CHUNK):
        runs, starts, _ = read_runs(strings[i : i + CHUNK])
        order = np.arange(len(runs)) - np.repeat(starts[:-1], np.diff(starts))
        areas.append(np.diff(np.append(0, np.cumsum(runs * (order % 2)))[starts]))
    return np.concatenate(areas)


class MaskError(ValueError):
    """No mask; ``kind`` is ``'type'``, ``'points'``, ``'far'`` or ``'rle'``."""

    def __init__(self, kind: str, sentence: str) -> None:
        super().__init__(sentence)
        self.kind = kind


def to_counts(segmentation: Any, size: tuple[int, int], decodable: bool = True) -> bytes:
    """Bring a COCO ``segmentation`` of any form to compressed counts that pycocotools can decode.

    Args:
        segmentation: Polygons ``[[x, y, ...], ...]`` in pixels, or an RLE whose counts are a
            string, bytes or a list of run lengths.
        size: ``(h, w)`` of the image.
        decodable: Check strings; readers of many check them together with ``undecodable``.

    Raises:
        MaskError: See ``check_polygons``; or an RLE of another size or one that cannot be decoded,
            or something else altogether.
    """
    if isinstance(segmentation, Mapping):
        counts = _rle_counts(segmentation, size)
        if decodable and undecodable([counts], [size]):
            raise MaskError('rle', f'the RLE cannot be decoded to {size[0]} x {size[1]} pixels')
        return counts
    check_polygons(segmentation, size)
    parts = coco_mask.frPyObjects([list(polygon) for polygon in segmentation], *size)
    return coco_mask.merge(parts)['counts']


def check_polygons(segmentation: Any, size: tuple[int, int]) -> None:
    """Check that polygons can be drawn.

    Raises:
        MaskError: No list of flat lists of finite numbers, a polygon of fewer than three points or
            with half a point, or one far outside of the image or of an endless outline.
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
        _require_near(polygon, i, size)
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


def _require_near(polygon: Sequence[float], i: int, size: tuple[int, int]) -> None:
    """Raise MaskError for a polygon far outside of the image, or of an endless outline."""
    farthest = max(polygon, key=abs, default=0)
    if abs(farthest) > max(FARTHEST, 2 * max(size)):
        raise _far(f'polygon {i}', farthest, size)
    if abs(farthest) * len(polygon) > LONGEST / 2:  # or it cannot be that long
        points = np.reshape(polygon[: len(polygon) // 2 * 2], (-1, 2))
        length = np.abs(np.diff(points, axis=0)).sum()
        if length > LONGEST:
            raise MaskError(
                'far',
                f'polygon {i} has an outline of {length:g} pixels, too long for the image of '
                f'{size[0]} x {size[1]} pixels: remove it or give the mask as RLE',
            )


def check_points(points: np.ndarray, size: tuple[int, int], label: str) -> None:
    """Refuse NaN and coordinates far outside of the image, array of any shape."""
    farthest = points.flat[np.abs(points).argmax()] if points.size else 0.0  # NaN comes first
    if not abs(farthest) <= max(FARTHEST, 2 * max(size)):
        raise _far(label, float(farthest), size)


def _far(label: str, value: float, size: tuple[int, int]) -> MaskError:
    text = f'{value:g}' if isinstance(value, float) else _shorten(value)
    return MaskError(
        'far',
        f'{label} has the coordinate {text}, far outside of the image of {size[0]} x {size[1]} '
        'pixels: give coordinates in pixels of the image',
    )


def rle_size(rle: Mapping) -> tuple[int, int]:
    """Read ``size`` of an RLE, ``(h, w)``; raise MaskError if it is none."""
    size = rle.get('size')
    values = list(size) if isinstance(size, (list, tuple, np.ndarray)) else []
    if len(values) != 2 or not all(
        isinstance(side, (int, np.integer)) and side > 0 for side in values
    ):
        raise MaskError('rle', f'the RLE has the size {_shorten(size)}: expected [height, width]')
    return int(values[0]), int(values[1])


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


def to_dense(
    masks: Sequence[RLE] | Tensor | np.ndarray,
    image_size: tuple[int, int] | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Decode masks of either format, BoolTensor[N, h, w]; what is dense already passes through.

    Args:
        masks: RLEs (counts as bytes, string or uncompressed list), or a Tensor[N, h, w].
        image_size: ``(h, w)`` that every mask must have. Needed only when there are no masks.
        device: Where to put the result; default: where the tensor is, or the CPU.
    """
    if isinstance(masks, (Tensor, np.ndarray)):
        dense = torch.as_tensor(masks, device=device).bool()
        if image_size is not None and tuple(dense.shape[-2:]) != tuple(image_size):
            raise ValueError(f'masks are {tuple(dense.shape[-2:])}, the image is {image_size}')
        return dense
    sizes = {rle_size(rle) for rle in masks}
    if image_size is None and not sizes:
        raise ValueError('no masks to take the size from: pass image_size=(h, w)')
    h, w = image_size if image_size is not None else next(iter(sizes))
    if sizes - {(h, w)}:
        raise ValueError(f'masks must all have the size {(h, w)}, got {sorted(sizes)}')
    strings = [_rle_counts(rle, (h, w)) for rle in masks]
    for i in undecodable(strings, [(h, w)] * len(strings))[:1]:
        raise ValueError(f'mask {i}: the RLE cannot be decoded to {h} x {w} pixels')
    dense = torch.empty((len(masks), h, w), dtype=torch.bool)
    for one, counts in zip(dense, strings):
        one[:] = torch.from_numpy(coco_mask.decode({'size': [h, w], 'counts': counts}))
    return dense.to(device) if device is not None else dense
