"""Run a whole detector of one ONNX file with NumPy and onnxruntime alone.

This file needs nothing else of the package, nor PyTorch: it may be copied to where the ONNX file
is used. ``tools/export_onnx.py --detector`` writes such files.

Shapes:   N detections, S side of a RoI mask, Hm x Wm cells of a mask map, h x w image.
"""

import json
import math
from typing import Any

import numpy as np

KEY = 'mmrefine'  # of the metadata
COEFFICIENT = 2048  # OpenCV's unit of interpolation weights


class Detector:
    """A detector of an ONNX file.

    Args:
        path: The file.
        options: Arguments of ``onnxruntime.InferenceSession``, such as ``providers``.

    Attributes:
        classes: Names of the classes.
        meta: Settings written with the file.

    Raises:
        ValueError: The file is no whole detector of this package.
    """

    def __init__(self, path: Any, **options: Any) -> None:
        import onnxruntime

        options.setdefault('providers', ['CPUExecutionProvider'])
        self.session = onnxruntime.InferenceSession(str(path), **options)
        found = self.session.get_modelmeta().custom_metadata_map.get(KEY)
        if found is None:
            raise ValueError(f'{path} is no detector written by tools/export_onnx.py --detector')
        self.meta = json.loads(found)
        self.classes = self.meta['classes']
        self.inputs = {node.name for node in self.session.get_inputs()}
        self.outputs = [node.name for node in self.session.get_outputs()]

    def __call__(self, image: np.ndarray, score_thr: float = 0.0) -> dict[str, Any]:
        """Find the objects of an image.

        Args:
            image: uint8 array[h, w, 3] in the order of colours of OpenCV (BGR).
            score_thr: Leave out lower scores.

        Returns:
            ``boxes`` array[N, 4], (x1, y1, x2, y2) in pixels of the image, ``scores`` and
            ``labels`` array[N], and ``masks``, N COCO RLEs with compressed counts.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f'an image is uint8 [h, w, 3], got {image.dtype} {image.shape}')
        pixels, size = self.prepare(image)
        feed = {'image': pixels, 'size': np.array(size, np.int64)}
        values = self.session.run(None, {k: v for k, v in feed.items() if k in self.inputs})
        found = dict(zip(self.outputs, values))
        kept = found['scores'] >= score_thr
        found = {name: value[kept] for name, value in found.items()}
        h, w = image.shape[:2]
        scale = np.array([size[1] / w, size[0] / h] * 2, np.float32)
        boxes = found.pop('boxes')
        masks = found.pop('masks')
        if self.meta['masks']['kind'] == 'roi':
            found['masks'] = [self._roi_mask(m, b, (h, w)) for m, b in zip(masks, boxes / scale)]
        else:
            whole = self._map_size(masks.shape[1:], size, (h, w))
            found['masks'] = [self._map_mask(m, whole, (h, w)) for m in masks]
        found['boxes'] = boxes / scale + np.array(
            [0, 0] + [self.meta['box_offset']] * 2, np.float32
        )
        if 'mask_scores' in found:
            found['mask_scores'] = found['mask_scores'] * found['scores']
        return found

    def prepare(self, image: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
        """Resize, normalise and pad an image: Array[1, 3, H, W] and the size without padding."""
        height, width = image.shape[:2]
        long, short = max(self.meta['scale']), min(self.meta['scale'])
        if self.meta['keep_ratio']:
            factor = min(long / max(height, width), short / min(height, width))
            size = int(height * factor + 0.5), int(width * factor + 0.5)
        else:
            size = self.meta['scale'][1], self.meta['scale'][0]
        resized = resize(image, size).astype(np.float32)
        if self.meta['to_rgb']:
            resized = resized[:, :, ::-1]
        mean, std = (np.array(self.meta[key], np.float32) for key in ('mean', 'std'))
        resized = (resized - mean) / std
        unit = self.meta['pad_divisor']
        padding = [(0, -side % unit) for side in size]
        padded = np.pad(resized, [*padding, (0, 0)], constant_values=self.meta['pad_value'])
        return np.ascontiguousarray(padded.transpose(2, 0, 1)[None]), size

    def _roi_mask(self, mask: np.ndarray, box: np.ndarray, image: tuple[int, int]) -> dict:
        """Resize a mask into its box, one bilinear sample at every pixel centre."""
        spans, weights = [], []
        for axis, (low, high) in enumerate(((box[1], box[3]), (box[0], box[2]))):
            first = int(min(max(math.floor(low) - 1, 0), image[axis]))
            last = int(min(max(math.ceil(high) + 1, 0), image[axis]))
            pixel = np.arange(first, max(first, last), dtype=np.float32) + np.float32(0.5)
            with np.errstate(all='ignore'):
                place = (pixel - low) / (high - low) * 2 - 1
            place = ((np.where(np.isinf(place), 0, place) + 1) * mask.shape[axis] - 1) / 2
            spans.append(first)
            weights.append(_hats(place.astype(np.float32), mask.shape[axis]))
        inside = weights[0] @ mask @ weights[1].T >= np.float32(self.meta['masks']['threshold'])
        return encode(inside, spans[1], spans[0], image)

    def _map_mask(
        self, values: np.ndarray, whole: tuple[float, float], image: tuple[int, int]
    ) -> dict:
        """Resize a map to ``whole``, cut it to the image and threshold it."""
        threshold = np.float32(self.meta['masks']['threshold'])
        parts = []
        for axis in (0, 1):
            hot = np.flatnonzero((values > threshold).any(1 - axis))
            if len(hot) == 0:
                return encode(np.zeros((0, 0), bool), 0, 0, image)
            cells, pixels = values.shape[axis], math.floor(whole[axis] * (1 + 1e-12))
            place = (np.arange(pixels) + 0.5) * (cells / whole[axis]) - 0.5
            place = place.clip(0, cells - 1)[: image[axis]].astype(np.float32)
            # The cells around the hot ones, and the pixels that read no others.
            low, high = max(hot[0] - 1, 0), min(hot[-1] + 2, cells)
            first = int(np.searchsorted(place, low))
            last = int(np.searchsorted(place, high - 1, side='right'))
            weight = _hats(place[first:last] - np.float32(low), high - low)
            parts.append((low, high, first, weight))
        (y0, y1, top, rows), (x0, x1, left, columns) = parts
        inside = rows @ values[y0:y1, x0:x1] @ columns.T > threshold
        return encode(inside, left, top, image)

    def _map_size(
        self, cells: tuple[int, ...], size: tuple[int, int], image: tuple[int, int]
    ) -> tuple[float, float]:
        """Pixels of the image that the whole map covers."""
        rule, stride = self.meta['masks']['rule'], self.meta['masks']['stride']
        sides = [stride * c * new / old for c, old, new in zip(cells, size, image)]
        if rule == 'ceil':
            return math.ceil(sides[0]), math.ceil(sides[1])
        if rule == 'exact':
            return sides[0], sides[1]
        # The originals of SipMask round down.
        scales = [new / old for new, old in zip(size, image)]
        if rule == 'floor_single':
            ratios = [float(np.float32(stride) / np.float32(s)) for s in scales]
        else:
            ratios = [stride / s for s in scales]
        return math.floor(cells[0] * ratios[0]), math.floor(cells[1] * ratios[1])


def _hats(place: np.ndarray, cells: int) -> np.ndarray:
    """Bilinear weights of every cell at every place, 0 beyond the first and last: Array[P, C]."""
    gap = np.abs(place[:, None] - np.arange(cells, dtype=np.float32))
    return np.maximum(1 - gap, 0).astype(np.float32)


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize uint8 [h, w, 3] bilinearly to ``size`` (h, w), in OpenCV's fixed-point numbers."""
    if image.shape[:2] == tuple(size):
        return image
    y0, y1, top, bottom = _resize_axis(image.shape[0], size[0], at_edges=True)
    x0, x1, left, right = _resize_axis(image.shape[1], size[1], at_edges=False)
    pixels = image.astype(np.int32)
    rows = pixels[:, x0] * left[:, None] + pixels[:, x1] * right[:, None] >> 4
    value = (top[:, None, None] * rows[y0] >> 16) + (bottom[:, None, None] * rows[y1] >> 16)
    return ((value + 2) >> 2).clip(0, 255).astype(np.uint8)


def _resize_axis(old: int, new: int, at_edges: bool) -> tuple[np.ndarray, ...]:
    """The two pixels that each new one mixes, and their weights."""
    place = ((np.arange(new) + 0.5) * (old / new) - 0.5).astype(np.float32)
    low = np.floor(place).astype(np.int64)
    share = place - low.astype(np.float32)
    if not at_edges:
        share = np.where((low < 0) | (low >= old - 1), np.float32(0), share)
    weights = [np.rint(w * COEFFICIENT).astype(np.int32) for w in (1 - share, share)]
    first, second = low.clip(0, old - 1), (low + 1).clip(0, old - 1)
    return first, second, *weights


def encode(crop: np.ndarray, x: int, y: int, image: tuple[int, int]) -> dict[str, Any]:
    """COCO RLE of an image (h, w) that is 0 but for a crop BoolArray[hc, wc] at column x, row y."""
    h, w = image
    framed = np.pad(crop.T, ((0, 0), (1, 1)))  # columns with a 0 at either end
    column, row = np.nonzero(framed[:, 1:] != framed[:, :-1])
    at = (column + x) * h + row + y
    # A run that goes on in the next column ends and begins at one place: neither counts.
    at, times = np.unique(at, return_counts=True)
    ends = np.append(at[times % 2 == 1], h * w)
    ends = ends[:-1] if len(ends) > 1 and ends[-2] == h * w else ends
    counts = np.diff(ends, prepend=0).tolist()
    return {'size': [int(h), int(w)], 'counts': compress(counts)}


def compress(counts: list[int]) -> bytes:
    """Write run lengths as COCO does: five bits a character, lowest first."""
    text = bytearray()
    for i, count in enumerate(counts):
        value = count - counts[i - 2] if i > 2 else count
        more = True
        while more:
            digit = value & 0x1F
            value >>= 5
            more = value != (-1 if digit & 0x10 else 0)
            text.append(digit + (0x20 if more else 0) + 48)
    return bytes(text)
