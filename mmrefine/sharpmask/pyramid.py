"""Sliding windows over an image pyramid with bounded memory.

Origin:   facebookresearch/deepmask (InferDeepMask.lua)
Changes:  levels are resized from the normalised image, all of it or a strip of rows; codes are
          kept for the selected windows only.

Shapes:   h x w image, H x W padded level, R x Q windows of a level, N selected windows, D code
          channels.
"""

import math
from collections.abc import Sequence
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


def level_image(
    image: Tensor,
    size: tuple[int, int],
    margin: int,
    fill: Tensor,
    rows: tuple[int, int] | None = None,
) -> Tensor:
    """Resize a normalised image corner-aligned and surround it by the fill colour.

    Args:
        image: Tensor[1, 3, h, w].
        size: Size to resize to.
        margin: Pixels added on each side.
        fill: Tensor[3], normalised colour of the surroundings.
        rows: First row wanted and the one after the last; default all.

    Returns:
        Tensor[1, 3, H, W] with W = width + 2 margin, and H alike or the number of rows wanted.
    """
    height, width = size
    begin, end = rows or (0, height + 2 * margin)
    padded = fill.view(1, 3, 1, 1).expand(1, 3, end - begin, width + 2 * margin).clone()
    first, last = max(begin - margin, 0), min(end - margin, height)
    if first < last:
        top = first + margin - begin
        inside = padded[:, :, top : top + last - first, margin : margin + width]
        inside.copy_(_resized_rows(image, size, first, last))
    return padded


def _resized_rows(image: Tensor, size: tuple[int, int], first: int, last: int) -> Tensor:
    source = image.shape[-2]
    if tuple(image.shape[-2:]) == tuple(size):
        return image[:, :, first:last]
    if (first, last) != (0, size[0]):
        places = torch.arange(first, last, device=image.device) * ((source - 1) / (size[0] - 1))
        above = places.long().clamp(max=source - 1)
        below = (above + 1).clamp(max=source - 1)
        share = (places - above)[:, None].to(image)
        image = torch.lerp(image[:, :, above], image[:, :, below], share)
    return F.interpolate(image, (last - first, size[1]), mode='bilinear', align_corners=True)


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
