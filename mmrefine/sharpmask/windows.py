"""Windows of an image pyramid: levels, the choice of windows, and their way back to the image.

Origin:   facebookresearch/deepmask (InferDeepMask.lua), foolwood/deepmask-pytorch
Changes:  levels are resized from the normalised image, part by part. Every released rule of placing
          a square mask is separable, ``rows @ mask @ columns``, so one routine serves them all, on
          the visible part only.

Shapes:   h x w image, H x W padded level, R x Q windows of a level, N selected windows, S side of
          a window's mask, L visible rows or columns.
Units:    a cell is 16 px of its level. The window of cell (r, c) at scale s is centred at pixel
          (16 c / s, 16 r / s) of the image and 160 / s wide.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor
from torch.nn import functional as F

from mmrefine.layers import without_autocast
from mmrefine.masks import boxed_masks_to_rle, roi_masks_to_rle

from .trunk import STRIDE

PASTE_RULES = ('official', 'port', 'grid')

# Training frames an object so that its longer side fills 128/224 of the window.
WINDOW_PER_OBJECT = 224 / 128
# Side of the probability map that the PyTorch port resizes its coarse masks to.
_PORT_PROBABILITY_SIZE = 112
# Pixels of a chunk of pasted crops (fp32: 8 MiB).
CHUNK_PIXELS = 1 << 21


@dataclass
class Level:
    """What is kept of one pyramid level."""

    scale: float  # nominal
    reduced: Tensor  # (1, C, H/16, W/16), input of the encoder
    scores: Tensor  # (R, Q), logits of the windows
    horizontals: list[Tensor]  # of the refinement's branches, coarsest first; none without it


@dataclass
class Windows:
    """The selected windows, best first."""

    scores: Tensor  # (N,), logits
    levels: Tensor  # (N,)
    cells: Tensor  # (N, 2), row and column on the level's stride-16 map


def scaled_size(size: tuple[int, int], scale: float, rounding: str = 'half_up') -> tuple[int, int]:
    """Size of a pyramid level in pixels, at least one; ``half_up`` as in the Torch7 code, ``floor``
    as in its port."""
    shift = 0.5 if rounding == 'half_up' else 0.0
    height, width = (max(math.floor(n * scale + shift), 1) for n in size)
    return height, width


def level_image(
    image: Tensor,
    size: tuple[int, int],
    margin: int,
    fill: Tensor,
    part: tuple[int, int, int, int] | None = None,
) -> Tensor:
    """Resize a normalised image Tensor[1, 3, h, w] corner-aligned and surround it by the fill
    colour.

    ``margin`` pixels of ``fill``, Tensor[3], are added on each side; ``part`` are the rows and
    columns wanted of the level, (y1, x1, y2, x2), default all -> Tensor[1, 3, y2 - y1, x2 - x1].
    """
    y1, x1, y2, x2 = part or (0, 0, size[0] + 2 * margin, size[1] + 2 * margin)
    pixels = fill.view(1, 3, 1, 1).repeat(1, 1, y2 - y1, x2 - x1)
    # The resized image covers [margin, margin + size) of the level.
    spans = [(max(a, margin), min(b, margin + n)) for a, b, n in zip((y1, x1), (y2, x2), size)]
    (top, bottom), (left, right) = spans
    if top < bottom and left < right:
        for axis, (begin, end) in enumerate(spans):
            image = _resized(image, 2 + axis, size[axis], begin - margin, end - margin)
        pixels[:, :, top - y1 : bottom - y1, left - x1 : right - x1] = image
    return pixels


def _resized(image: Tensor, dim: int, size: int, begin: int, end: int) -> Tensor:
    """Cells ``begin`` to ``end`` of one axis resized to ``size`` cells, corner-aligned."""
    last = image.shape[dim] - 1
    if last + 1 == size:
        return image.narrow(dim, begin, end - begin)
    cells = torch.arange(begin, end, device=image.device, dtype=torch.float64)
    positions = cells * (last / max(size - 1, 1))
    lower = positions.long().clamp(max=last)
    upper = (lower + 1).clamp(max=last)
    share = (positions - lower).to(image.dtype).view(-1, *[1] * (image.dim() - 1 - dim))
    return torch.lerp(image.index_select(dim, lower), image.index_select(dim, upper), share)


def select_windows(levels: Sequence[Level], count: int, index_quirk: bool = False) -> Windows:
    """Take the ``count`` best windows of all levels; fewer if there are fewer.

    ``index_quirk``: Parity: the Torch7 code reads 1-based flat indices as 0-based rows, so that it
    returns the window one row up and one column right of the scored one.
    """
    flat = torch.cat([level.scores.flatten() for level in levels])
    scores, index = flat.topk(min(count, flat.numel()))  # (N,), (N,)
    sizes = index.new_tensor([level.scores.numel() for level in levels])
    widths = index.new_tensor([level.scores.shape[1] for level in levels])
    ends = sizes.cumsum(0)
    which = torch.searchsorted(ends, index, right=True)  # (N,), level of each window
    local, width = index - (ends - sizes)[which], widths[which]  # (N,), number within the level
    if index_quirk:
        rows = torch.div(local + 1, width, rounding_mode='floor').clamp(min=1) - 1
        cols = (local + 1) % width
    else:
        rows, cols = torch.div(local, width, rounding_mode='floor'), local % width
    return Windows(scores, which, torch.stack([rows, cols], 1))


def gather_windows(maps: Tensor, cells: Tensor, size: int, step: int) -> Tensor:
    """Cut square windows out of a map; what lies outside is zero.

    Map Tensor[1, K, h, w] and LongTensor[N, 2], row and column of each window in units of ``step``
    cells -> Tensor[N, K, size, size].
    """
    height, width = maps.shape[-2:]
    offsets = torch.arange(size, device=maps.device)
    rows, cols = (cells[:, axis, None] * step + offsets for axis in (0, 1))  # (N, size) each
    inside = (rows < height)[:, None, :, None] & (cols < width)[:, None, None, :]  # (N, 1, s, s)
    rows, cols = rows.clamp(max=height - 1), cols.clamp(max=width - 1)
    windows = maps[0][:, rows[:, :, None], cols[:, None, :]]  # (K, N, size, size)
    return windows.transpose(0, 1) * inside


def framing_windows(boxes: Tensor) -> Tensor:
    """Square windows Tensor[N, 4] that frame the objects in boxes Tensor[N, 4] as in training."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).amax(1, keepdim=True) * WINDOW_PER_OBJECT / 2
    return torch.cat([centres - half, centres + half], 1)


def crop_patches(image: Tensor, windows: Tensor, size: int, fill: Tensor) -> Tensor:
    """Resample square windows Tensor[N, 4] of an image Tensor[1, 3, h, w], with the colour ``fill``
    Tensor[3] beyond it, to Tensor[N, 3, size, size]."""
    height, width = image.shape[-2:]
    count = len(windows)
    steps = (torch.arange(size, device=image.device) + 0.5) / size
    x, y = (
        (windows[:, i, None] + (windows[:, i + 2] - windows[:, i])[:, None] * steps) / n * 2 - 1
        for i, n in ((0, width), (1, height))
    )  # (N, size) each, in the coordinates of grid_sample
    full = (count, size, size)
    grid = torch.stack([x[:, None].expand(full), y[:, :, None].expand(full)], -1)  # (N, s, s, 2)
    # grid_sample fills with zeros, so the colour is taken off before and put on after.
    colour = fill.view(1, 3, 1, 1)
    source = (image - colour).expand(count, -1, -1, -1)
    return F.grid_sample(source, grid.to(image), align_corners=False) + colour


def linear(source: int, target: int, align_corners: bool, device: torch.device) -> Tensor:
    """Matrix Tensor[target, source] of bilinear resizing along one axis."""
    cells = torch.eye(source, device=device)[None]
    return F.interpolate(cells, target, mode='linear', align_corners=align_corners)[0].T


def box_average(source: int, target: int, device: torch.device | str = 'cpu') -> Tensor:
    """Matrix Tensor[target, source] of area averaging for target < source."""
    edges = torch.arange(target + 1, dtype=torch.float64, device=device) * (source / target)
    cells = torch.arange(source, device=device)
    low = torch.maximum(edges[:-1, None], cells)
    high = torch.minimum(edges[1:, None], cells + 1)
    overlap = (high - low).clamp(min=0)  # (target, source)
    return (overlap / overlap.sum(1, keepdim=True)).float()


def _visible(first: Tensor, size: int, image: int) -> tuple[Tensor, Tensor, Tensor]:
    """First visible pixel LongTensor[N], pixels [N, L] and their validity [N, L], for windows that
    cover [first, first + size)."""
    length = max(min(size, image), 1)
    starts = first.clamp(0, max(image - length, 0))
    pixels = starts[:, None] + torch.arange(length, device=first.device)
    valid = (pixels >= first[:, None]) & (pixels < first[:, None] + size) & (pixels < image)
    return starts, pixels, valid


Axis = tuple[Tensor, Tensor]  # first visible pixels LongTensor[N], weights Tensor[N, L, S]


def _official_axis(cells: Tensor, scale: float, image: int, side: int, source: int) -> Axis:
    # The window is resized to an integer size and put at an integer position.
    size = max(int(side / scale), 1)
    first = ((STRIDE * cells.double() - side / 2) / scale).floor().long()
    starts, pixels, valid = _visible(first, size, image)
    if size < source:
        matrix = box_average(source, size, cells.device)  # (size, S)
    else:
        matrix = linear(source, size, True, cells.device)
    rows = (pixels - first[:, None]).clamp(0, size - 1)
    return starts, matrix[rows] * valid[..., None]


def _port_axis(cells: Tensor, scale: float, image: int, side: int, source: int) -> Axis:
    # Parity: the port resizes probabilities twice, the second time by one warp that maps the
    # scaled image's extent h * s onto h - 1.
    factor = max(image - 1, 1) / (image * scale)
    corner = STRIDE * cells.double() - side / 2
    size = int((side + 1) * factor) + 2
    starts, pixels, valid = _visible((factor * (corner - 1)).floor().long(), size, image)
    positions = (pixels / factor - corner[:, None]).float()[..., None]  # (N, L, 1)
    distance = (positions - torch.arange(side, device=cells.device)).abs()  # (N, L, side)
    inside = (1 - distance).clamp(min=0)  # bilinear weights, zero beyond the window
    weights = inside @ linear(source, side, False, cells.device)
    return starts, weights * valid[..., None]


class Placement(NamedTuple):
    """How the window masks of one scale come into an image."""

    cells: Tensor  # LongTensor[N, 2], row and column of each window on the stride-16 map
    # pixels of the network input per pixel of the image, vertically and horizontally
    scale: tuple[float, float]
    image_size: tuple[int, int]  # (h, w)
    threshold: float  # foreground probability; a pixel must exceed it
    side: int = 160  # of a window, in pixels of the network input
    # ``official``: integer size and position, logits resized corner-aligned (averaged when
    # shrinking). Parity: ``port``: two resamplings of probabilities. ``grid``: one sample per pixel
    # centre of the exact window, as every RoI mask is pasted
    rule: str = 'official'


def window_crops(logits: Tensor, place: Placement) -> tuple[Tensor, Tensor]:
    """Binarise window masks Tensor[N, S, S] on the pixels that they cover; not by the rule
    ``grid``.

    Returns:
        BoolTensor[N, Lh, Lw], false beyond the visible part, and LongTensor[N, 2], image column and
        row of each crop's first pixel.
    """
    values, limit, axis = logits.float(), place.threshold, _port_axis
    if place.rule == 'official':
        limit, axis = math.log(limit / (1 - limit)), _official_axis
    else:
        if logits.shape[-1] < _PORT_PROBABILITY_SIZE:
            size = (_PORT_PROBABILITY_SIZE,) * 2
            values = F.interpolate(values[:, None], size, mode='bilinear', align_corners=True)[:, 0]
        values = values.sigmoid()
    with without_autocast(logits.device):
        (top, rows), (left, columns) = (
            axis(place.cells[:, i], scale, length, place.side, values.shape[-1])
            for i, (scale, length) in enumerate(zip(place.scale, place.image_size))
        )
        masks = rows @ values @ columns.mT > limit  # (N, Lh, S) (N, S, S) (N, S, Lw), (N, Lh, Lw)
    if limit < 0:
        # Pixels beyond the window have a logit of zero, which would be foreground.
        masks &= (rows.sum(2) > 0)[:, :, None] & (columns.sum(2) > 0)[:, None, :]
    return masks, torch.stack([left, top], 1)


def paste_windows(logits: Tensor, place: Placement) -> list[dict]:
    """Binarise window masks Tensor[N, S, S] of one scale in the image: N RLEs."""
    if place.rule != 'grid':
        return boxed_masks_to_rle(*window_crops(logits, place), place.image_size)
    steps = logits.new_tensor(place.scale[::-1], dtype=torch.float64)
    corners = (STRIDE * place.cells.flip(1).double() - place.side / 2) / steps  # (N, 2), x and y
    boxes = torch.cat([corners, corners + place.side / steps], 1).float()
    return roi_masks_to_rle(logits, boxes, place.image_size, place.threshold, logits=True)


def windows_at_once(scale: tuple[float, float], image_size: tuple[int, int], side: int) -> int:
    """Number of windows of one scale whose crops stay near ``CHUNK_PIXELS``, at most 64."""
    area = math.prod(max(min(int(side / s) + 2, n), 1) for s, n in zip(scale, image_size))
    return min(max(CHUNK_PIXELS // area, 1), 64)


def tight_boxes(rles: Sequence[dict]) -> np.ndarray:
    """Tight boxes array[N, 4], (x1, y1, x2, y2) in pixels, exclusive; zeros for empty masks."""
    boxes = coco_mask.toBbox(list(rles)).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes
