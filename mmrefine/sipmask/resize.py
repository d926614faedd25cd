"""From half-resolution mask values inside the boxes to binary crops of the original image.

Bilinear resizing is separable and local: the pixels that a box can reach are computed from its own
values, everything else is 0. Values equal those of ``torch.nn.functional.interpolate`` on whole
maps.

Shapes:   N boxes, M map pixels inside them (order of ``cells.Regions``), H x W map, h x w image.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .assembly import region_crops
from .cells import Regions


class Axis(NamedTuple):
    """How an output axis samples an input axis.

    Attributes:
        low: LongTensor[L], first input cell of every output pixel.
        high: LongTensor[L], second one; may equal the first at the end of the axis.
        share: Tensor[L], weight of the second.
        rest: Tensor[L], weight of the first.
    """

    low: Tensor
    high: Tensor
    share: Tensor
    rest: Tensor

    def reach(self, start: list[int], end: list[int]) -> list[tuple[int, int]]:
        """Output pixels that see any input cell of [start, end), as half-open intervals."""
        first = torch.searchsorted(self.high.cpu(), torch.tensor(start, dtype=torch.long))
        last = torch.searchsorted(self.low.cpu(), torch.tensor(end, dtype=torch.long))
        return list(zip(first.tolist(), last.tolist()))


def sample_axis(cells: int, pixels: int, ratio: float, device: torch.device) -> Axis:
    """Sampling of ``cells`` input cells at ``pixels`` positions, ``ratio`` cells per pixel.

    Positions are those of ``interpolate(align_corners=False)``: (i + 0.5) * ratio - 0.5, at least
    0.
    """
    place = (torch.arange(pixels, dtype=torch.float32, device=device) + 0.5) * ratio - 0.5
    place = place.clamp(min=0)
    low = place.long().clamp(max=cells - 1)
    share = (place - low).clamp(max=1)
    return Axis(low, (low + 1).clamp(max=cells - 1), share, 1 - share)


def resize_regions(
    values: Tensor, regions: Regions, vertical: Axis, horizontal: Axis
) -> tuple[list[Tensor], list[tuple[int, int]]]:
    """Resize the map of every box, computing only what the box reaches.

    Args:
        values: Tensor[M], soft values on the map.
        regions: The boxes.
        vertical: Sampling of the map's rows by the image's rows.
        horizontal: The same for columns.

    Returns:
        N soft crops Tensor[height, width] of the image and their (x, y) offsets in image pixels. A
        box without pixels gives a crop of size 0.
    """
    rows = vertical.reach([ys[0] for ys in regions.y_edges], [ys[-1] for ys in regions.y_edges])
    columns = horizontal.reach(
        [xs[0] for xs in regions.x_edges], [xs[-1] for xs in regions.x_edges]
    )
    crops, offsets = [], []
    for n, crop in enumerate(region_crops(values, regions)):
        (top, bottom), (left, right) = rows[n], columns[n]
        if crop.numel() == 0:
            bottom, right = top, left
        # A ring of zeros stands for everything outside the box.
        crop = F.pad(crop, (1, 1, 1, 1))
        crop = _sample(crop, horizontal, left, right, regions.x_edges[n][0], dim=1)
        crops.append(_sample(crop, vertical, top, bottom, regions.y_edges[n][0], dim=0))
        offsets.append((left, top))
    return crops, offsets


def _sample(crop: Tensor, axis: Axis, start: int, end: int, origin: int, dim: int) -> Tensor:
    """Interpolate a crop with a ring of zeros at the axis's pixels ``start`` to ``end``."""
    last = crop.shape[dim] - 1
    low = (axis.low[start:end] - origin + 1).clamp(0, last)
    high = (axis.high[start:end] - origin + 1).clamp(0, last)
    share, rest = axis.share[start:end], axis.rest[start:end]
    if dim == 0:
        share, rest = share[:, None], rest[:, None]
    first = crop.index_select(dim, low).mul_(rest)
    return first.addcmul_(crop.index_select(dim, high), share)
