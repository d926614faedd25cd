"""Boxes and distances: conversion, clipping and overlap.

The originals count pixels: a box from 3 to 5 is 3 wide. ``offset=1`` computes widths, heights and
intersections that way; ``offset=0`` is today's convention.

Shapes: N boxes, M boxes.
"""

import torch
from torch import Tensor


def decode_ltrb(points: Tensor, ltrb: Tensor) -> Tensor:
    """Tensor[..., 2] (x, y), Tensor[..., 4] distances of the same unit -> boxes Tensor[..., 4].

    Distances may be negative; such boxes come out inverted and are not repaired here.
    """
    x, y = points.unbind(-1)
    left, top, right, bottom = ltrb.unbind(-1)
    return torch.stack((x - left, y - top, x + right, y + bottom), dim=-1)


def encode_ltrb(points: Tensor, boxes: Tensor) -> Tensor:
    """Tensor[..., 2], boxes Tensor[..., 4] -> distances Tensor[..., 4] to left, top, right, bottom.

    Leading shapes broadcast: points [P, 1, 2] with boxes [1, G, 4] give [P, G, 4].
    """
    x, y = points.unbind(-1)
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack((x - x1, y - y1, x2 - x, y2 - y), dim=-1)


def clip_boxes(boxes: Tensor, size: tuple[float, float], offset: float = 0.0) -> Tensor:
    """Limit boxes Tensor[N, 4] to an image of ``size`` = (height, width) pixels.

    ``offset=1`` limits to the last pixel index, [0, width - 1], instead of [0, width].
    """
    height, width = size
    # One limit a call: numbers and, in a graph, tensors are limits.
    xs = boxes[..., 0::2].clamp(min=0).clamp(max=width - offset)
    ys = boxes[..., 1::2].clamp(min=0).clamp(max=height - offset)
    return torch.stack((xs, ys), dim=-1).flatten(-2)


def paired_iou(first: Tensor, second: Tensor, offset: float = 0.0, eps: float = 1e-9) -> Tensor:
    """Overlap of box i with box i: Tensor[..., 4], Tensor[..., 4] -> Tensor[...] (broadcasts).

    Inverted boxes keep their signed area, as in the originals; a union of at most ``eps`` counts
    as no overlap instead of dividing by it.
    """
    first, second = first.float(), second.float()
    ax1, ay1, ax2, ay2 = first.unbind(-1)
    bx1, by1, bx2, by2 = second.unbind(-1)
    width = (ax2.minimum(bx2) - ax1.maximum(bx1) + offset).clamp(min=0)
    height = (ay2.minimum(by2) - ay1.maximum(by1) + offset).clamp(min=0)
    inter = width * height
    area_a = (ax2 - ax1 + offset) * (ay2 - ay1 + offset)
    area_b = (bx2 - bx1 + offset) * (by2 - by1 + offset)
    union = area_a + area_b - inter
    valid = union.abs() > eps
    return (inter / union.where(valid, union.new_ones(()))).where(valid, inter.new_zeros(()))


def pairwise_iou(first: Tensor, second: Tensor, offset: float = 0.0) -> Tensor:
    """Overlap of every box with every box: Tensor[..., N, 4], Tensor[..., M, 4] -> [..., N, M]."""
    return paired_iou(first.unsqueeze(-2), second.unsqueeze(-3), offset)
