"""Points of a feature pyramid, one per cell, and the check that the pyramid fits the head.

Shapes: B images, P points of all levels (finest level first, then row by row), C channels.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class PointGrid(NamedTuple):
    """Points of all levels of one pyramid."""

    points: Tensor  # (P, 2), (x, y) in pixels of the network input
    strides: Tensor  # (P,), pixels between neighbours on the point's level
    levels: Tensor  # LongTensor[P], index of the point's level
    counts: tuple[int, ...]  # points per level, as Python integers; their sum is P


def make_grid(
    sizes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> PointGrid:
    """Place one point per cell of every level at ``stride * index + stride // 2``; ``sizes`` are
    (height, width) in cells."""
    if len(sizes) != len(strides):
        raise ValueError(f'{len(sizes)} feature levels but {len(strides)} strides: give one each')
    points, per_point, levels = [], [], []
    for level, ((height, width), stride) in enumerate(zip(sizes, strides)):
        ys = torch.arange(height, device=device, dtype=dtype) * stride + stride // 2
        xs = torch.arange(width, device=device, dtype=dtype) * stride + stride // 2
        rows, columns = torch.meshgrid(ys, xs, indexing='ij')
        points.append(torch.stack((columns.flatten(), rows.flatten()), dim=1))
        per_point.append(xs.new_full((height * width,), stride))
        levels.append(torch.full((height * width,), level, device=device, dtype=torch.long))
    counts = tuple(height * width for height, width in sizes)
    return PointGrid(torch.cat(points), torch.cat(per_point), torch.cat(levels), counts)


def flatten_levels(maps: Sequence[Tensor]) -> Tensor:
    """List of Tensor[B, C, H, W], one per level -> Tensor[B, P, C] in the order of the grid."""
    return torch.cat([level.flatten(2).transpose(1, 2) for level in maps], dim=1)


def require_pyramid(
    maps: Sequence[Tensor], strides: Sequence[int], channels: int, image_size: tuple[int, int]
) -> None:
    """Check that the levels and widths of a neck match the head; a wrong stride shifts every box.

    Args:
        maps: One Tensor[B, C, h, w] per level, finest first.
        strides, channels: Those of the head.
        image_size: (height, width) of the network input in pixels.
    """
    if len(maps) != len(strides):
        raise ValueError(
            f'the neck gives {len(maps)} levels, but the head has {len(strides)} strides '
            f'{list(strides)}: set num_outs={len(strides)} of the neck, or name one stride (and '
            'regress_range) per level'
        )
    for level, (feature, stride) in enumerate(zip(maps, strides)):
        if feature.shape[1] != channels:
            raise ValueError(
                f'level {level} of the neck has {feature.shape[1]} channels, but the heads expect '
                f'{channels}: set in_channels of both heads to out_channels of the neck'
            )
        for cells, pixels in zip(feature.shape[-2:], image_size):
            if 2 * cells * stride <= pixels or (cells > 1 and cells * stride >= 2 * pixels):
                raise ValueError(
                    f'level {level} of the neck has {cells} cells on {pixels} pixels, but the head '
                    f'names a stride of {stride}: begin at the level of that stride (start_level '
                    'of the neck), or set strides of the head'
                )
