"""What the mask branch learns from, and which proposals it learns with.

Shapes: G objects of one image, P positive points, H x W pixels of the padded input, h x w cells of
        the map.
"""

import torch
from torch import Tensor


def dilated_targets(masks: Tensor, stride: int = 4) -> Tensor:
    """Foreground of the mask map as v1-v3 define it: any of a cell's four central pixels.

    Equals bilinear scaling by 1 / stride followed by ``> 0``.

    Args:
        masks: Tensor[G, H, W] 0 or 1; H and W multiples of the stride.
        stride: Pixels per cell, even.

    Returns:
        BoolTensor[G, H / stride, W / stride].
    """
    # ``masks > 0`` would widen every pixel of a boolean mask to eight bytes
    before, after = stride // 2 - 1, stride // 2
    rows = masks[:, before::stride].bool() | masks[:, after::stride].bool()
    return rows[..., before::stride] | rows[..., after::stride]


def sampled_targets(masks: Tensor, stride: int = 4) -> Tensor:
    """Foreground of the mask map as AdelaiDet defines it: the pixel right below a cell's middle.

    Tensor[G, H, W] 0 or 1 -> BoolTensor[G, H / stride, W / stride].
    """
    return masks[:, stride // 2 :: stride, stride // 2 :: stride].bool()


def semantic_targets(masks: Tensor, labels: Tensor, background: int, stride: int = 8) -> Tensor:
    """Class of the smallest object on every cell, read at the cell's middle.

    Args:
        masks: Tensor[G, H, W] 0 or 1; H and W multiples of the stride.
        labels: LongTensor[G].
        background: Label of cells without object.
        stride: Pixels per cell.

    Returns:
        LongTensor[H / stride, W / stride].
    """
    areas = masks.flatten(1).sum(dim=1)
    order = torch.argsort(areas, stable=True)
    cells = masks[:, stride // 2 :: stride, stride // 2 :: stride].bool()
    # The first object in ascending order of area that covers the cell; the appended row is the
    # background.
    ordered = torch.cat((cells[order], cells.new_ones(1, *cells.shape[1:])))
    first = ordered.int().argmax(dim=0)
    return torch.cat((labels[order], labels.new_full((1,), background)))[first]


def mask_centroids(masks: Tensor) -> Tensor:
    """Mean pixel index (x, y) of every mask: Tensor[G, H, W] -> Tensor[G, 2]; (0, 0) if empty."""
    weights = masks.float()
    columns, rows = weights.sum(dim=1), weights.sum(dim=2)
    area = columns.sum(dim=1).clamp(min=1)
    xs = torch.arange(columns.shape[1], device=masks.device, dtype=torch.float32)
    ys = torch.arange(rows.shape[1], device=masks.device, dtype=torch.float32)
    return torch.stack(((columns @ xs) / area, (rows @ ys) / area), dim=1)


def best_of_group(scores: Tensor, groups: Tensor, num_groups: int) -> Tensor:
    """Mark the highest score of every group, the first one on ties.

    Args:
        scores: Tensor[P].
        groups: LongTensor[P].
        num_groups: Number of groups.

    Returns:
        BoolTensor[P] with one true entry for every group that occurs.
    """
    top = scores.new_full((num_groups,), -torch.inf).scatter_reduce(0, groups, scores, 'amax')
    tied = scores == top[groups]
    index = torch.arange(len(scores), device=scores.device)
    last = len(scores)
    first = index.new_full((num_groups,), last)
    first = first.scatter_reduce(0, groups, torch.where(tied, index, last), 'amin')
    return index == first[groups]


def overlapping_of_group(
    scores: Tensor, groups: Tensor, num_groups: int, threshold: float
) -> Tensor:
    """Mark scores above a threshold, or the highest of a group without any: BoolTensor[P]."""
    top = scores.new_full((num_groups,), -torch.inf).scatter_reduce(0, groups, scores, 'amax')
    limit = top[groups]
    return torch.where(limit > threshold, scores > threshold, scores == limit)
