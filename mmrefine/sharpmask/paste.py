"""From window masks to masks of the image.

Every rule of placing a square window mask into the image is separable: a pixel is ``rows @ mask @
columns``. So one routine serves all rules, works on the visible part only, and never builds a map
of the whole image.

Shapes:   N windows, S side of the window mask, h x w image, L visible rows or columns of a chunk.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor
from torch.nn import functional as F

PasteRule = Literal['official', 'port', 'grid']
PASTE_RULES = ('official', 'port', 'grid')

# side of the probability map that the PyTorch port resizes its coarse masks to
_PORT_PROBABILITY_SIZE = 112
# pixels of a chunk of crops (fp32: 8 MiB)
CHUNK_PIXELS = 1 << 21


@dataclass(frozen=True)
class Crops:
    """Binary masks of one chunk of windows, cut to the image.

    Attributes:
        masks: BoolTensor[N, Lh, Lw]; false beyond the visible part.
        offsets: LongTensor[N, 2], image column and row of each crop's first pixel.
    """

    masks: Tensor
    offsets: Tensor


def _hat(coordinates: Tensor, size: int) -> Tensor:
    """Bilinear weights of source cells 0..size-1 at fractional coordinates, zero beyond the map:
    [..., size]."""
    cells = torch.arange(size, device=coordinates.device)
    return (1 - (coordinates[..., None] - cells).abs()).clamp(min=0)


def corner_aligned(source: int, target: int, device: torch.device | str = 'cpu') -> Tensor:
    """Matrix Tensor[target, source] of corner-aligned bilinear resizing."""
    step = (source - 1) / max(target - 1, 1)
    return _hat((torch.arange(target, device=device) * step).clamp(max=source - 1.0), source)


def half_pixel(source: int, target: int, device: torch.device | str = 'cpu') -> Tensor:
    """Matrix Tensor[target, source] of bilinear resizing with pixel centres aligned, edges
    repeated."""
    centres = (torch.arange(target, device=device) + 0.5) * (source / target) - 0.5
    return _hat(centres.clamp(0, source - 1), source)


def box_average(source: int, target: int, device: torch.device | str = 'cpu') -> Tensor:
    """Matrix Tensor[target, source] of area averaging for target < source."""
    edges = torch.arange(target + 1, dtype=torch.float64, device=device) * (source / target)
    cells = torch.arange(source, device=device)
    low = torch.maximum(edges[:-1, None], cells)
    high = torch.minimum(edges[1:, None], cells + 1)
    overlap = (high - low).clamp(min=0)
    return (overlap / overlap.sum(1, keepdim=True)).float()


@dataclass(frozen=True)
class _Axis:
    """Visible range and weights of a chunk along one image axis."""

    starts: Tensor  # LongTensor[N], first visible pixel
    weights: Tensor  # Tensor[N, L, S], zero beyond the window


def _visible(first: Tensor, size: int, image: int) -> tuple[Tensor, Tensor, Tensor]:
    """First visible pixel, pixel grid [N, L] and its validity, for windows covering [first, first
    + size)."""
    length = max(min(size, image), 1)
    starts = first.clamp(0, max(image - length, 0))
    pixels = starts[:, None] + torch.arange(length, device=first.device)
    valid = (pixels >= first[:, None]) & (pixels < first[:, None] + size) & (pixels < image)
    return starts, pixels, valid


def _official_axis(cells: Tensor, scale: float, image: int, side: int, source: int) -> _Axis:
    # the window is resized to an integer size and put at an integer position
    size = max(int(side / scale), 1)
    first = ((16 * cells.double() - side / 2) / scale).floor().long()
    starts, pixels, valid = _visible(first, size, image)
    resize = corner_aligned if size >= source else box_average
    matrix = resize(source, size, cells.device)
    rows = (pixels - first[:, None]).clamp(0, size - 1)
    return _Axis(starts, matrix[rows] * valid[..., None])


def _port_axis(cells: Tensor, scale: float, image: int, side: int, source: int) -> _Axis:
    # Parity: the port resizes probabilities twice, the second time by one warp that maps the
    # scaled image's extent h * s onto h - 1
    factor = max(image - 1, 1) / (image * scale)
    corner = 16 * cells.double() - side / 2
    size = int((side + 1) * factor) + 2
    starts, pixels, valid = _visible((factor * (corner - 1)).floor().long(), size, image)
    inside = _hat((pixels / factor - corner[:, None]).float(), side)
    weights = inside @ half_pixel(source, side, cells.device)
    return _Axis(starts, weights * valid[..., None])


def _grid_axis(cells: Tensor, scale: float, image: int, side: int, source: int) -> _Axis:
    # one sample at every pixel centre inside the exact window
    size = side / scale
    corner = (16 * cells.double() - side / 2) / scale
    starts, pixels, valid = _visible(corner.floor().long(), int(size) + 2, image)
    coordinates = (pixels + 0.5 - corner[:, None]) / size * source - 0.5
    inside = (coordinates > -0.5) & (coordinates < source - 0.5) & valid
    weights = _hat(coordinates.clamp(0, source - 1).float(), source)
    return _Axis(starts, weights * inside[..., None])


_AXES = {'official': _official_axis, 'port': _port_axis, 'grid': _grid_axis}


def tight_boxes(rles: Sequence[dict]) -> np.ndarray:
    """Tight boxes array[N, 4], (x1, y1, x2, y2) in pixels, exclusive; zeros for empty masks."""
    boxes = coco_mask.toBbox(list(rles)).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def window_chunks(
    scale: tuple[float, float], image_size: tuple[int, int], side: int, count: int
) -> Iterator[slice]:
    """Split ``count`` windows of one scale so that the crops of a chunk stay near
    ``CHUNK_PIXELS``."""
    area = 1
    for s, extent in zip(scale, image_size):
        area *= max(min(int(side / s) + 2, extent), 1)
    step = min(max(CHUNK_PIXELS // area, 1), 64)
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def paste_windows(
    logits: Tensor,
    cells: Tensor,
    scale: tuple[float, float],
    image_size: tuple[int, int],
    threshold: float,
    side: int = 160,
    rule: PasteRule = 'official',
) -> Crops:
    """Place window masks of one scale into the image and binarise them.

    Args:
        logits: Tensor[N, S, S].
        cells: LongTensor[N, 2], row and column of each window on the stride-16 map.
        scale: Pixels of the network input per pixel of the image, vertically and horizontally.
        image_size: ``(h, w)``.
        threshold: Foreground probability, strict.
        side: Window side in pixels of the network input.
        rule: ``official`` = integer size and position, logits resized corner-aligned (averaged
            when shrinking); ``port`` = two resamplings of probabilities; ``grid`` = one sample per
            pixel centre of the exact window.

    Returns:
        The crops of the chunk.
    """
    logits = logits.float()
    if rule == 'official':
        values, limit = logits, torch.logit(torch.tensor(threshold, dtype=torch.float64)).item()
    else:
        values, limit = logits, threshold
        if rule == 'port' and logits.shape[-1] < _PORT_PROBABILITY_SIZE:
            size = (_PORT_PROBABILITY_SIZE,) * 2
            values = F.interpolate(values[:, None], size, mode='bilinear', align_corners=True)[:, 0]
        values = values.sigmoid()
    axes = [
        _AXES[rule](cells[:, i], scale[i], image_size[i], side, values.shape[-1]) for i in (0, 1)
    ]
    rows, columns = axes
    pixels = rows.weights @ values @ columns.weights.mT
    masks = pixels > limit
    if (
        rule == 'official' and limit < 0
    ):  # a logit of zero, as pixels beyond the window have, is foreground
        masks &= (rows.weights.sum(2) > 0)[:, :, None] & (columns.weights.sum(2) > 0)[:, None, :]
    offsets = torch.stack([columns.starts, rows.starts], 1)
    return Crops(masks, offsets)
