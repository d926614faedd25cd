"""Mask values inside the boxes only: one dot product per pixel, from the coefficients of its cell.

Paper:    SipMask, https://arxiv.org/abs/2007.14772, section 3.2 (spatial preservation).
Origin:   JialeCao001/SipMask ``mmdet/ops/crop`` (MIT) for the rule of the cells; written anew.
Changes:  the original multiplies the basis with all k * k coefficient vectors over the whole image
          and then crops. Outside the box the result is 0 by definition, and inside each pixel needs
          one of the k * k products, so only those are computed; the values are the same. Time and
          memory follow the area of the boxes.

A pixel is inside where ``x1 <= px < x2``, its integer index compared with the float edge, and
belongs to column ``trunc((px - x1) / cell)`` with ``cell = (x2 - x1 + 0.1) / k``: a pixel exactly
on a seam goes left or up, and no pixel reaches column k. Boxes are neither clipped nor rounded, so
the seams do not move when a box leaves the map. Empty, inverted and NaN boxes contain nothing.

Shapes:   C basis maps of H x W cells, N boxes with k x k cells each, M pixels inside all boxes
          together; coordinates in map pixels.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from mmrefine.layers import without_autocast

SEAM_MARGIN = 0.1
# Pixels multiplied at a time: 16 MB of gathered values, measured fastest on a CPU.
CHUNK = 1 << 16


class BoxPixels(NamedTuple):
    """The map pixels inside N boxes, box after box, each box row by row."""

    # N pairs (x, y) on the host, first column and row of every box on the map
    corners: list[tuple[int, int]]
    # N pairs (height, width) on the host, (0, 0) for boxes without pixels
    shapes: list[tuple[int, int]]
    box: Tensor  # LongTensor[M], box of every pixel
    row: Tensor  # LongTensor[M], its row on the map
    column: Tensor  # LongTensor[M], its column on the map
    cell: Tensor  # LongTensor[M], its cell in the box, 0 to k * k - 1, row by row

    def crops(self, values: Tensor) -> list[Tensor]:
        """Views of values Tensor[M], one Tensor[height, width] per box."""
        parts = values.split([height * width for height, width in self.shapes])
        return [part.view(shape) for part, shape in zip(parts, self.shapes)]

    def maps(self, values: Tensor, size: tuple[int, int]) -> Tensor:
        """Values Tensor[M] on empty maps of ``size``: Tensor[N, H, W], 0 outside the boxes."""
        maps = values.new_zeros(len(self.shapes), *size)
        return maps.index_put((self.box, self.row, self.column), values)


def cell_index(low: Tensor, high: Tensor, length: int, k: int) -> Tensor:
    """Cell of every map row or column: edges Tensor[N], Tensor[N] -> LongTensor[N, length].

    Values run from 0 to k - 1; -1 marks what is outside ``low <= index < high``.
    """
    low, high = low.float()[:, None], high.float()[:, None]  # (N, 1)
    index = torch.arange(length, device=low.device, dtype=torch.float32)
    # Parity: the kernels add the margin in double precision and divide in single.
    cell = (((high - low).double() + SEAM_MARGIN) / k).float()
    number = ((index - low) / cell).nan_to_num(0).clamp(0, k - 1).long()  # (N, length)
    return torch.where((index >= low) & (index < high), number, -1)


def split_boxes(boxes: Tensor, size: tuple[int, int], k: int) -> BoxPixels:
    """List the pixels of boxes Tensor[N, 4] and their k x k cells on a map of ``size`` = (H, W).

    Costs one transfer to the host, of four integers a box.
    """
    columns = cell_index(boxes[:, 0], boxes[:, 2], size[1], k)  # (N, W)
    rows = cell_index(boxes[:, 1], boxes[:, 3], size[0], k)  # (N, H)
    left, top = ((index >= 0).byte().argmax(dim=1) for index in (columns, rows))
    width, height = ((index >= 0).sum(dim=1) for index in (columns, rows))
    width, height = width * (height > 0), height * (width > 0)
    extents = torch.stack((left, top, height, width), dim=1).tolist()
    area = height * width
    total = sum(h * w for _, _, h, w in extents)
    box = torch.arange(len(boxes), device=boxes.device)
    box = box.repeat_interleave(area, output_size=total)  # (M)
    order = torch.arange(total, device=boxes.device) - (area.cumsum(0) - area)[box]
    row = top[box] + order.div(width[box], rounding_mode='floor')
    column = left[box] + order % width[box]
    cell = rows[box, row] * k + columns[box, column]
    corners = [(x, y) for x, y, _, _ in extents]
    return BoxPixels(corners, [(h, w) for _, _, h, w in extents], box, row, column, cell)


def pixel_logits(basis: Tensor, coeffs: Tensor, pixels: BoxPixels) -> Tensor:
    """Mask logits of all pixels inside the boxes: float32 Tensor[M], differentiable once.

    Basis Tensor[C, H, W]; coefficients Tensor[N, k * k, C], one vector per cell, row by row.
    """
    flat_basis = basis.float().flatten(1).t().contiguous()  # (H * W, C)
    flat_coeffs = coeffs.float().flatten(0, 1)  # (N * k * k, C)
    point = pixels.row * basis.shape[2] + pixels.column
    vector = pixels.box * coeffs.shape[1] + pixels.cell
    with without_autocast(basis.device):
        return _DotProducts.apply(flat_basis, flat_coeffs, point, vector)


def pixel_values(maps: Tensor, owners: Tensor, pixels: BoxPixels) -> Tensor:
    """Read the pixels of every box from its own map: Tensor[G, H, W], map LongTensor[N] of every
    box -> Tensor[M]."""
    return maps[owners[pixels.box], pixels.row, pixels.column]


class _DotProducts(torch.autograd.Function):
    """Row ``left[i]`` of one matrix times row ``right[i]`` of another, for M pairs of rows.

    Autograd would keep the gathered rows, 2 M C numbers; here they exist chunk by chunk, and the
    backward pass gathers them again.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, a: Tensor, b: Tensor, left: Tensor, right: Tensor) -> Tensor:
        ctx.save_for_backward(a, b, left, right)
        products = [
            torch.linalg.vecdot(a.index_select(0, i), b.index_select(0, j))
            for i, j in zip(left.split(CHUNK), right.split(CHUNK))
        ]
        return torch.cat(products)  # (M)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        a, b, left, right = ctx.saved_tensors
        grad_a, grad_b = torch.zeros_like(a), torch.zeros_like(b)
        for i, j, part in zip(left.split(CHUNK), right.split(CHUNK), grad.split(CHUNK)):
            grad_a.index_add_(0, i, b.index_select(0, j) * part[:, None])
            grad_b.index_add_(0, j, a.index_select(0, i) * part[:, None])
        return grad_a, grad_b, None, None
