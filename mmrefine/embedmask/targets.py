"""What the mask branch learns from, and which proposals it learns with.

Shapes: B images, P points of all levels, G objects of one image, J positive points of one image,
        H x W pixels of the padded input, h x w cells of the mask map, D embedding dimensions, M
        margin dimensions.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmdet.structures.bbox import get_box_tensor
from mmdet.utils import InstanceList
from mmengine.structures import InstanceData
from torch import Tensor

from mmrefine.fcos import paired_iou
from mmrefine.layers import require_masks


class Proposals(NamedTuple):
    """All proposals of a batch and the objects they may represent, in grid order."""

    embeds: Tensor  # (B, P, D)
    margins: Tensor  # (B, P, M)
    gt_index: Tensor  # LongTensor[B, P], object of the image, -1 for none
    # Tensor[B, P], IoU of the predicted box with that object's box; meaningless for -1
    overlap: Tensor


def match_proposals(
    embeds: Tensor,
    margins: Tensor,
    boxes: Tensor,
    gt_index: Tensor,
    gt_instances: InstanceList,
    pixel_offset: int = 0,
) -> Proposals:
    """Compare the predicted box Tensor[B, P, 4] of every point, without gradient, with the box of
    its object; ``pixel_offset=1`` if boxes end at their last pixel."""
    learned = [
        # An index of -1 takes the appended row.
        torch.cat((gt.bboxes, gt.bboxes.new_zeros(1, 4)))[index]
        for gt, index in zip(gt_instances, gt_index)
    ]
    overlap = paired_iou(boxes, torch.stack(learned), pixel_offset)  # (B, P)
    return Proposals(embeds, margins, gt_index, overlap)


def limit_positives(gt_index: Tensor, limit: int | None) -> Tensor:
    """Keep a random choice of at most ``limit`` positive points of a batch.

    LongTensor[B, P] -> LongTensor[B, P], -1 at the others; None is no limit.
    """
    if limit is None:
        return gt_index
    order = torch.rand(gt_index.shape, device=gt_index.device).masked_fill(gt_index < 0, -1)
    keep = order.flatten().topk(min(limit, order.numel())).indices
    limited = torch.full_like(gt_index, -1).flatten()
    return limited.scatter(0, keep, gt_index.flatten()[keep]).view_as(gt_index)


def learning_points(
    overlap: Tensor, gt_index: Tensor, num_objects: int, select: str, min_overlap: float
) -> Tensor:
    """Choose the points of one image whose proposals learn masks: LongTensor[J], ascending.

    Args:
        overlap: Tensor[P], IoU of every point's box with its object.
        gt_index: LongTensor[P], object of every point, -1 for none.
        select: ``'best'``: the best overlapping point of every object; ``'mean'``: those above
            ``min_overlap``, or the best one of an object that has none; ``'all'``.
    """
    index = (gt_index >= 0).nonzero().squeeze(1)  # (J)
    groups, overlap = gt_index[index], overlap[index]
    if select == 'best':
        return index[best_of_group(overlap, groups, num_objects)]
    if select == 'mean':
        return index[overlapping_of_group(overlap, groups, num_objects, min_overlap)]
    return index


def objects_on_canvas(
    gt_instances: InstanceList, metas: list[dict], canvas: tuple[int, int]
) -> InstanceList:
    """Rasterise the masks of every image, cut or padded to the padded input, (H, W) in pixels.

    ``metas`` name an image without masks in a ValueError.

    Returns:
        Per image ``bboxes`` Tensor[G, 4], ``labels`` LongTensor[G], ``masks`` BoolTensor[G, H, W].
    """
    require_masks(gt_instances, metas)
    objects = []
    for gt in gt_instances:
        boxes = get_box_tensor(gt.bboxes)
        masks = gt.masks
        if not torch.is_tensor(masks):
            masks = masks.to_tensor(dtype=torch.bool, device=boxes.device)
        masks = masks.bool()[:, : canvas[0], : canvas[1]]
        masks = F.pad(masks, (0, canvas[1] - masks.shape[2], 0, canvas[0] - masks.shape[1]))
        objects.append(InstanceData(bboxes=boxes.float(), labels=gt.labels, masks=masks))
    return objects


def dilated_targets(masks: Tensor, stride: int = 4) -> Tensor:
    """Foreground of the mask map as v1-v3 define it: any of a cell's four central pixels.

    Equals bilinear scaling by 1 / stride followed by ``> 0``. Tensor[G, H, W] 0 or 1, H and W
    multiples of the even stride -> BoolTensor[G, H / stride, W / stride].
    """
    # ``masks > 0`` would widen every pixel of a boolean mask to eight bytes
    before, after = stride // 2 - 1, stride // 2
    rows = masks[:, before::stride].bool() | masks[:, after::stride].bool()  # (G, h, W)
    return rows[..., before::stride] | rows[..., after::stride]  # (G, h, w)


def sampled_targets(masks: Tensor, stride: int = 4) -> Tensor:
    """Foreground of the mask map as AdelaiDet defines it: the pixel right below a cell's middle.

    Tensor[G, H, W] 0 or 1 -> BoolTensor[G, H / stride, W / stride].
    """
    return masks[:, stride // 2 :: stride, stride // 2 :: stride].bool()


def semantic_targets(masks: Tensor, labels: Tensor, background: int, stride: int = 8) -> Tensor:
    """Class of the smallest object on every cell, read at the cell's middle.

    Masks Tensor[G, H, W] 0 or 1, labels LongTensor[G] -> LongTensor[H / stride, W / stride], with
    ``background`` in cells without object.
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
    columns, rows = (masks.sum(dim=axis, dtype=torch.float32) for axis in (1, 2))  # (G, W), (G, H)
    area = columns.sum(dim=1).clamp(min=1)
    xs = torch.arange(columns.shape[1], device=masks.device, dtype=torch.float32)
    ys = torch.arange(rows.shape[1], device=masks.device, dtype=torch.float32)
    # Sums, not matrix products, which autocast computes in half precision: they overflow.
    return torch.stack(((columns * xs).sum(dim=1) / area, (rows * ys).sum(dim=1) / area), dim=1)


def best_of_group(scores: Tensor, groups: Tensor, num_groups: int) -> Tensor:
    """Mark the highest score of every group, the first one on ties: Tensor[J], LongTensor[J] ->
    BoolTensor[J]."""
    top = _top(scores, groups, num_groups)  # (G)
    tied = scores == top[groups]
    index = torch.arange(len(scores), device=scores.device)
    last = len(scores)
    first = index.new_full((num_groups,), last)
    first = first.scatter_reduce(0, groups, torch.where(tied, index, last), 'amin')
    return index == first[groups]


def overlapping_of_group(
    scores: Tensor, groups: Tensor, num_groups: int, threshold: float
) -> Tensor:
    """Mark scores above a threshold, or the highest of a group without any: BoolTensor[J]."""
    limit = _top(scores, groups, num_groups)[groups]  # (J)
    return torch.where(limit > threshold, scores > threshold, scores == limit)


def _top(scores: Tensor, groups: Tensor, num_groups: int) -> Tensor:
    """Highest score of every group: Tensor[J], LongTensor[J] -> Tensor[G]; -inf for empty ones."""
    lowest = scores.new_full((num_groups,), -torch.inf)
    return lowest.scatter_reduce(0, groups, scores, 'amax')
