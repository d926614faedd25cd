"""Where a box lies on a map and how it splits into cells: the rule of SipMask's CUDA kernels.

Paper:    SipMask, https://arxiv.org/abs/2007.14772, section 3.2 (spatial preservation).
Origin:   JialeCao001/SipMask ``mmdet/ops/crop`` (MIT); written anew from the rule, plain torch.

A pixel is inside where ``x1 <= px < x2``, its integer index compared with the float edge, and
belongs to column ``trunc((px - x1) / cell)`` with ``cell = (x2 - x1 + 0.1) / k``: a pixel exactly
on a seam goes left or up, and no pixel reaches column k. Boxes are neither clipped nor rounded, so
the seams do not move when a box leaves the map. Empty, inverted and NaN boxes contain nothing.

Shapes:   N boxes, k x k cells per box, H x W map; coordinates in map pixels.
"""

from typing import NamedTuple

import torch
from torch import Tensor

SEAM_MARGIN = 0.1


def cell_index(low: Tensor, high: Tensor, length: int, k: int) -> Tensor:
    """Cell of every map row or column: edges Tensor[N], Tensor[N] -> LongTensor[N, length].

    Values run from 0 to k - 1; -1 marks what is outside ``low <= index < high``.
    """
    low, high = low.float()[:, None], high.float()[:, None]
    index = torch.arange(length, device=low.device, dtype=torch.float32)
    # The kernels add the margin in double precision and divide in single.
    cell = (((high - low).double() + SEAM_MARGIN) / k).float()
    number = ((index - low) / cell).nan_to_num(0).clamp(0, k - 1).long()
    return torch.where((index >= low) & (index < high), number, -1)


class Regions(NamedTuple):
    """The visible part of every box as k x k rectangles of map pixels.

    Region n covers rows ``y_edges[n][0]`` to ``y_edges[n][k]`` (exclusive) and columns likewise;
    cell (i, j) lies between edges i, i + 1 and j, j + 1. Values inside all regions, row by row and
    region after region, form a *flat* Tensor[M].

    Attributes:
        k: Cells per side.
        x_edges: k + 1 integers for each of the N regions.
        y_edges: The same for rows.
        columns: LongTensor[N, W], ``cell_index`` of every map column.
        rows: LongTensor[N, H], ``cell_index`` of every map row.
    """

    k: int
    x_edges: list[list[int]]
    y_edges: list[list[int]]
    columns: Tensor
    rows: Tensor

    @property
    def areas(self) -> list[int]:
        """Pixels of every region."""
        return [height * width for height, width in self.shapes]

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """(height, width) of every region."""
        return [(ys[-1] - ys[0], xs[-1] - xs[0]) for xs, ys in zip(self.x_edges, self.y_edges)]

    def slices(self) -> list[tuple[slice, slice]]:
        """(rows, columns) of every region on the map."""
        return [
            (slice(ys[0], ys[-1]), slice(xs[0], xs[-1]))
            for xs, ys in zip(self.x_edges, self.y_edges)
        ]

    def spread(self, per_box: Tensor) -> Tensor:
        """Give every pixel the value of its box: Tensor[N] -> Tensor[M]."""
        areas = torch.tensor(self.areas, device=per_box.device, dtype=torch.long)
        return per_box.repeat_interleave(areas, output_size=sum(self.areas))

    def pixels(self) -> tuple[Tensor, Tensor, Tensor]:
        """Box, row and column of all pixels, three LongTensor[M], without a loop over boxes."""
        device = self.rows.device
        first, corners = 0, []
        for (height, width), xs, ys in zip(self.shapes, self.x_edges, self.y_edges):
            corners.append((first, ys[0], xs[0], width))
            first += height * width
        corner = torch.tensor(corners, device=device, dtype=torch.long).view(-1, 4)
        box = self.spread(torch.arange(len(corners), device=device))
        start, top, left, width = corner[box].unbind(dim=1)
        place = torch.arange(first, device=device) - start
        return box, top + place.div(width, rounding_mode='floor'), left + place % width


def split_boxes(boxes: Tensor, size: tuple[int, int], k: int) -> Regions:
    """Cut boxes Tensor[N, 4] into k x k cells on a map of ``size`` = (H, W).

    Costs one transfer to the host, of 2 (k + 1) integers a box.
    """
    height, width = size
    columns = cell_index(boxes[:, 0], boxes[:, 2], width, k)
    rows = cell_index(boxes[:, 1], boxes[:, 3], height, k)
    edges = torch.stack((_edges(columns, k), _edges(rows, k)), dim=1)
    x_edges, y_edges = zip(*edges.tolist()) if len(boxes) else ((), ())
    return Regions(k, list(x_edges), list(y_edges), columns, rows)


def _edges(index: Tensor, k: int) -> Tensor:
    """LongTensor[N, L] of cells -> LongTensor[N, k + 1]: where each cell starts, and the end."""
    start = (index >= 0).long().cumsum(dim=1).eq(0).sum(dim=1) % max(index.shape[1], 1)
    counts = torch.stack([(index == cell).sum(dim=1) for cell in range(k)], dim=1)
    return torch.cat((start[:, None], start[:, None] + counts.cumsum(dim=1)), dim=1)
