"""Mask values inside the boxes only: one dot product per pixel, from the coefficients of its cell.

Paper:    SipMask, https://arxiv.org/abs/2007.14772, section 3.2.
Changes:  the original multiplies the basis with all k * k coefficient vectors over the whole image
          and then crops. Outside the box the result is 0 by definition, and inside each pixel needs
          one of the k * k products, so only those are computed; the values are the same. Time and
          memory follow the area of the boxes.

Shapes:   C basis maps of H x W cells, N boxes with k x k cells, M pixels inside all boxes together
          (``cells.Regions`` defines their order).
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from .cells import Regions


def region_logits(
    basis: Tensor, coeffs: Tensor, regions: Regions, by_index: bool | None = None
) -> Tensor:
    """Mask logits of all pixels inside the boxes.

    Args:
        basis: Tensor[C, H, W].
        coeffs: Tensor[N, k * k, C], one vector per cell, row by row.
        regions: The boxes, N of them.
        by_index: Gather pixels by index instead of walking over the boxes; the default does so
            off the CPU, where many small products would wait for their launches.

    Returns:
        Tensor[M], float32, differentiable once in ``basis`` and ``coeffs``.
    """
    if by_index is None:
        by_index = basis.device.type != 'cpu'
    function = _IndexedLogits if by_index else _SlicedLogits
    return function.apply(basis.float(), coeffs.float(), regions)


def region_values(maps: Tensor, owners: Tensor, regions: Regions) -> Tensor:
    """Cut every region from its own map.

    Args:
        maps: Tensor[G, H, W].
        owners: LongTensor[N], the map of every region.
        regions: The boxes.

    Returns:
        Tensor[M] of the type of ``maps``.
    """
    if maps.device.type != 'cpu':
        box, rows, columns = regions.pixels()
        return maps[owners[box], rows, columns]
    cuts = [maps[g][cut].reshape(-1) for g, cut in zip(owners.tolist(), regions.slices())]
    return torch.cat([maps.new_empty(0), *cuts])


def region_maps(values: Tensor, regions: Regions, size: tuple[int, int]) -> Tensor:
    """Put values Tensor[M] back on empty maps: Tensor[N, H, W], 0 outside the boxes."""
    maps = values.new_zeros(len(regions.rows), *size)
    crops = region_crops(values, regions)
    for n, (rows, columns) in enumerate(regions.slices()):
        maps[n, rows, columns] = crops[n]
    return maps


def region_crops(values: Tensor, regions: Regions) -> list[Tensor]:
    """Views of values Tensor[M], one Tensor[height, width] per region."""
    return [part.view(shape) for part, shape in zip(values.split(regions.areas), regions.shapes)]


class _SlicedLogits(torch.autograd.Function):
    """One small product per cell, on strided views of the basis: nothing is copied."""

    @staticmethod
    def forward(ctx: FunctionCtx, basis: Tensor, coeffs: Tensor, regions: Regions) -> Tensor:
        ctx.save_for_backward(basis, coeffs)
        ctx.regions = regions
        values = basis.new_empty(sum(regions.areas))
        rows_first = basis.transpose(0, 1)
        crops = region_crops(values, regions)
        for n, on_map, in_crop, cell in _cells(regions):
            part = rows_first[on_map[0], :, on_map[1]]
            vector = coeffs[n, cell].expand(len(part), 1, -1)
            crops[n][in_crop] = torch.bmm(vector, part)[:, 0]
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        basis, coeffs = ctx.saved_tensors
        grad_basis, grad_coeffs = torch.zeros_like(basis), torch.zeros_like(coeffs)
        rows_first, grad_rows = basis.transpose(0, 1), grad_basis.transpose(0, 1)
        crops = region_crops(grad.contiguous(), ctx.regions)
        for n, on_map, in_crop, cell in _cells(ctx.regions):
            crop = crops[n][in_crop]
            part = rows_first[on_map[0], :, on_map[1]]
            grad_coeffs[n, cell] = torch.bmm(part, crop.unsqueeze(2)).sum(dim=0)[:, 0]
            grad_rows[on_map[0], :, on_map[1]].addcmul_(coeffs[n, cell][:, None], crop.unsqueeze(1))
        return grad_basis, grad_coeffs, None


class _IndexedLogits(torch.autograd.Function):
    """The same by gathers, in chunks that bound the memory whatever the boxes' sizes."""

    CHUNK = 1 << 20

    @classmethod
    def _chunks(cls, coeffs: Tensor, regions: Regions) -> Any:
        box, rows, columns = regions.pixels()
        cell = regions.rows[box, rows] * regions.k + regions.columns[box, columns]
        vector = box * coeffs.shape[1] + cell
        pixel = rows * regions.columns.shape[1] + columns
        return zip(vector.split(cls.CHUNK), pixel.split(cls.CHUNK))

    @staticmethod
    def forward(ctx: FunctionCtx, basis: Tensor, coeffs: Tensor, regions: Regions) -> Tensor:
        ctx.save_for_backward(basis, coeffs)
        ctx.regions = regions
        flat_basis, flat_coeffs = basis.flatten(1).t().contiguous(), coeffs.flatten(0, 1)
        values = [
            (flat_basis[pixel] * flat_coeffs[vector]).sum(dim=1)
            for vector, pixel in _IndexedLogits._chunks(coeffs, regions)
        ]
        return torch.cat([basis.new_empty(0), *values])

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        basis, coeffs = ctx.saved_tensors
        flat_basis, flat_coeffs = basis.flatten(1).t().contiguous(), coeffs.flatten(0, 1)
        grad_basis, grad_coeffs = torch.zeros_like(flat_basis), torch.zeros_like(flat_coeffs)
        chunks = _IndexedLogits._chunks(coeffs, ctx.regions)
        for (vector, pixel), part in zip(chunks, grad.split(_IndexedLogits.CHUNK)):
            part = part[:, None]
            grad_basis.index_add_(0, pixel, flat_coeffs[vector] * part)
            grad_coeffs.index_add_(0, vector, flat_basis[pixel] * part)
        return grad_basis.t().reshape(basis.shape), grad_coeffs.view_as(coeffs), None


def _cells(regions: Regions) -> Any:
    """Every cell that has pixels: box, slices on the map, slices in the box's crop, number."""
    for n, (xs, ys) in enumerate(zip(regions.x_edges, regions.y_edges)):
        for row, (top, bottom) in enumerate(zip(ys, ys[1:])):
            for column, (left, right) in enumerate(zip(xs, xs[1:])):
                if top < bottom and left < right:
                    on_map = slice(top, bottom), slice(left, right)
                    in_crop = slice(top - ys[0], bottom - ys[0]), slice(left - xs[0], right - xs[0])
                    yield n, on_map, in_crop, row * (len(xs) - 1) + column
