"""The two crop operators of the original, dense and exact, on any device.

They define what ``mmrefine.sipmask.assembly`` must reproduce; the model itself never builds their
input, k * k maps of the whole image for every object.

Shapes:   N boxes, k x k cells per box, H x W map.
"""

import math

import torch
from torch import Tensor

from mmrefine.sipmask.assembly import cell_index


def crop_split(maps: Tensor, boxes: Tensor) -> Tensor:
    """Compose one map per box from k * k maps, each giving the pixels of its own cell.

    Args:
        maps: Tensor[k * k, H, W, N] of any floating dtype; cells row by row.
        boxes: Tensor[N, 4] in map pixels, as given: not clipped, not rounded.

    Returns:
        Tensor[H, W, N]; 0 outside the box, whatever the maps hold there. Differentiable in
        ``maps``.

    Raises:
        ValueError: If the first size is no square number or the numbers of boxes differ.
    """
    k = math.isqrt(maps.shape[0])
    if k * k != maps.shape[0] or k == 0:
        raise ValueError(f'crop_split needs k * k maps (1, 4, 9, ...), got {maps.shape[0]}')
    _check_boxes(boxes, maps.shape[-1])
    columns = cell_index(boxes[:, 0], boxes[:, 2], maps.shape[2], k).t()[None]
    rows = cell_index(boxes[:, 1], boxes[:, 3], maps.shape[1], k).t()[:, None]
    plane = torch.where((rows >= 0) & (columns >= 0), rows * k + columns, -1)
    picked = maps.gather(0, plane.clamp(min=0)[None])[0]
    return torch.where(plane >= 0, picked, torch.zeros_like(picked))


def crop_split_gt(masks: Tensor, boxes: Tensor) -> Tensor:
    """Keep what lies inside the box: Tensor[H, W, N], boxes Tensor[N, 4] -> Tensor[H, W, N].

    Raises:
        ValueError: If the numbers of boxes and masks differ.
    """
    _check_boxes(boxes, masks.shape[-1])
    return crop_split(masks[None], boxes)


def _check_boxes(boxes: Tensor, count: int) -> None:
    if boxes.shape != (count, 4):
        raise ValueError(f'expected boxes of shape ({count}, 4), got {tuple(boxes.shape)}')
