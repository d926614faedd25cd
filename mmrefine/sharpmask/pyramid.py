"""Sliding windows over an image pyramid with bounded memory.

Origin:   facebookresearch/deepmask (InferDeepMask.lua)
Changes:  levels are resized from the normalised image; the trunk may run on tiles with an exact
          halo; codes are kept for the selected windows only.

Shapes:   h x w image, H x W padded level, R x Q windows of a level, N selected windows, D code
          channels.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

STRIDE = 16


@dataclass
class Level:
    """What is kept of one pyramid level.

    Attributes:
        scale: Nominal scale of the level.
        reduced: Tensor[1, C, H/16, W/16], input of the encoder.
        scores: Tensor[R, Q], score logits of the windows.
        horizontals: Maps of the refinement's horizontal branches, coarsest first; empty without
            refinement.
    """

    scale: float
    reduced: Tensor
    scores: Tensor
    horizontals: list[Tensor]


@dataclass
class Windows:
    """The selected windows, best first.

    Attributes:
        scores: Tensor[N], logits.
        levels: LongTensor[N].
        cells: LongTensor[N, 2], row and column on the level's stride-16 map.
    """

    scores: Tensor
    levels: Tensor
    cells: Tensor


def scaled_size(size: tuple[int, int], scale: float, rounding: str = 'half_up') -> tuple[int, int]:
    """Size of a pyramid level in pixels, at least one.

    Args:
        size: ``(h, w)`` of the image.
        scale: Scale of the level.
        rounding: ``half_up`` (Torch7 code) or ``floor`` (its port).
    """
    shift = 0.5 if rounding == 'half_up' else 0.0
    height, width = (max(math.floor(n * scale + shift), 1) for n in size)
    return height, width


def level_image(image: Tensor, size: tuple[int, int], margin: int, fill: Tensor) -> Tensor:
    """Resize a normalised image corner-aligned and surround it by the fill colour.

    Args:
        image: Tensor[1, 3, h, w].
        size: Size to resize to.
        margin: Pixels added on each side.
        fill: Tensor[3], normalised colour of the surroundings.

    Returns:
        Tensor[1, 3, size + 2 margin].
    """
    if tuple(image.shape[-2:]) != tuple(size):
        image = F.interpolate(image, size, mode='bilinear', align_corners=True)
    padded = fill.view(1, 3, 1, 1).expand(1, 3, size[0] + 2 * margin, size[1] + 2 * margin).clone()
    padded[..., margin : margin + size[0], margin : margin + size[1]] = image
    return padded


def _spans(size: int, tile: int, halo: int) -> Iterator[tuple[int, int, int, int]]:
    # (input begin, input end, core begin, core end); a last core shorter than the halo joins the
    # one before
    count = max(1, math.ceil(size / tile) if size > tile + halo else 1)
    step = math.ceil(size / count / STRIDE) * STRIDE
    for begin in range(0, size, step):
        end = min(begin + step, size)
        yield max(begin - halo, 0), min(end + halo, size), begin, end


def tiled_maps(
    network: Callable[[Tensor], Sequence[Tensor]],
    image: Tensor,
    strides: Sequence[int],
    tile: int | None,
    halo: int,
) -> list[Tensor]:
    """Run a convolutional network tile by tile; equal to one run where the halo covers its
    receptive field.

    Args:
        network: Maps Tensor[1, 3, H, W] to maps of the given strides.
        image: Tensor[1, 3, H, W].
        strides: Stride of each output map; all divide 16.
        tile: Side of a tile's core in pixels; None runs the image at once.
        halo: Pixels of context around a core, a multiple of 16.

    Returns:
        One Tensor[1, C_i, ceil(H / stride), ceil(W / stride)] per output.
    """
    height, width = image.shape[-2:]
    if tile is None or max(height, width) <= tile + halo:
        return list(network(image))
    outputs: list[Tensor] = []
    for top, bottom, y0, y1 in _spans(height, tile, halo):
        for left, right, x0, x1 in _spans(width, tile, halo):
            maps = network(image[..., top:bottom, left:right])
            if not outputs:
                outputs = [
                    m.new_zeros(1, m.shape[1], -(-height // s), -(-width // s))
                    for m, s in zip(maps, strides, strict=True)
                ]
            for out, m, s in zip(outputs, maps, strides):
                rows, cols = slice(y0 // s, -(-y1 // s)), slice(x0 // s, -(-x1 // s))
                out[..., rows, cols] = m[
                    ...,
                    rows.start - top // s : rows.stop - top // s,
                    cols.start - left // s : cols.stop - left // s,
                ]
    return outputs


def select_windows(levels: Sequence[Level], count: int, index_quirk: bool = False) -> Windows:
    """Take the best windows of all levels; fewer if there are fewer.

    Args:
        levels: Pyramid levels with their score maps.
        count: Largest number of windows.
        index_quirk: Parity: the Torch7 code reads 1-based flat indices as 0-based rows, so that it
            returns the window one row up and one column right of the scored one.
    """
    flat = torch.cat([level.scores.flatten() for level in levels])
    scores, index = flat.topk(min(count, flat.numel()))
    sizes = index.new_tensor([level.scores.numel() for level in levels])
    widths = index.new_tensor([level.scores.shape[1] for level in levels])
    ends = sizes.cumsum(0)
    which = torch.searchsorted(ends, index, right=True)
    local = index - (ends - sizes)[which]
    width = widths[which]
    if index_quirk:
        rows = torch.div(local + 1, width, rounding_mode='floor').clamp(min=1) - 1
        cols = (local + 1) % width
    else:
        rows, cols = torch.div(local, width, rounding_mode='floor'), local % width
    return Windows(scores, which, torch.stack([rows, cols], 1))
