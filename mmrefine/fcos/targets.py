"""Which point learns which object: FCOS assignment with centre sampling.

Paper: FCOS, https://arxiv.org/abs/1904.01355, sections 3.1-3.2, and its later centre sampling.

Shapes: P points of all levels, G objects of one image.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .boxes import encode_ltrb
from .grid import PointGrid


class PointTargets(NamedTuple):
    """Result of the assignment for one image, or stacked for a batch."""

    gt_index: Tensor  # LongTensor[P], index of the assigned object, -1 for background
    # Tensor[P, 4], distances to the object's sides in pixels; meaningless for background
    ltrb: Tensor


def assign_points(
    grid: PointGrid,
    boxes: Tensor,
    ranges: Tensor,
    center_radius: float | None = 1.5,
    area_offset: float = 0.0,
    centers: Tensor | None = None,
    allowed: Tensor | None = None,
) -> PointTargets:
    """Assign every point of an image to at most one object.

    A point may learn an object if it lies strictly inside the box (and inside the central square)
    and if its largest distance to a side fits the range of its level. Among several objects the
    smallest wins, on equal area the one listed first.

    Args:
        grid: Points of all levels.
        boxes: Tensor[G, 4], pixels of the network input; G may be 0.
        ranges: Tensor[L, 2], smallest and largest distance of every level, both inclusive, pixels.
        center_radius: Half side of the central square in strides of the level; None switches the
            square off, the whole box counts then.
        area_offset: Parity: 1 counts (w + 1)(h + 1) as the area, as the originals do.
        centers: Tensor[G, 2], centres of the squares in pixels; default is the box centre.
        allowed: BoolTensor[P, G], a further condition such as ``points_on_masks``.
    """
    ltrb = encode_ltrb(grid.points[:, None], boxes[None])
    inside = ltrb.amin(dim=-1) > 0
    if center_radius is not None:
        centers = (boxes[:, :2] + boxes[:, 2:]) / 2 if centers is None else centers
        reach = (grid.points[:, None] - centers[None]).abs()
        inside &= (reach < grid.strides[:, None, None] * center_radius).all(dim=-1)
    limits = ranges.to(ltrb)[grid.levels]
    longest = ltrb.amax(dim=-1)
    fits = (longest >= limits[:, :1]) & (longest <= limits[:, 1:])
    candidate = inside & fits
    if allowed is not None:
        candidate = candidate & allowed
    gt_index = _smallest(candidate, boxes, area_offset)
    padded = torch.cat((boxes, boxes.new_zeros(1, 4)))
    return PointTargets(gt_index, encode_ltrb(grid.points, padded[gt_index]))


def _smallest(candidate: Tensor, boxes: Tensor, area_offset: float) -> Tensor:
    """BoolTensor[P, G] -> LongTensor[P]: the smallest candidate, the first one on ties, or -1."""
    num_boxes = len(boxes)
    sides = boxes[:, 2:] - boxes[:, :2] + area_offset
    # Ranks are unique, so the minimum is too: `min` on areas leaves ties to the device.
    order = torch.sort(sides.prod(dim=1), stable=True).indices
    ranks = torch.where(candidate, order.argsort()[None], num_boxes)
    best = torch.cat((ranks, ranks.new_full((len(ranks), 1), num_boxes)), dim=1).amin(dim=1)
    return torch.cat((order, order.new_full((1,), -1)))[best]


def centerness_targets(ltrb: Tensor) -> Tensor:
    """How central a point is: Tensor[..., 4] of distances -> Tensor[...] in [0, 1].

    sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)); points outside their box give 0.
    """
    horizontal, vertical = ltrb[..., 0::2], ltrb[..., 1::2]
    ratio = _ratio(horizontal) * _ratio(vertical)
    return ratio.sqrt()


def _ratio(pair: Tensor) -> Tensor:
    return pair.amin(dim=-1).clamp(min=0) / pair.amax(dim=-1).clamp(min=1e-12)


def points_on_masks(points: Tensor, masks: Tensor) -> Tensor:
    """Mark the points, Tensor[P, 2] (x, y) in pixels, that lie on an object's mask: BoolTensor[P,
    G].

    Masks are Tensor[G, H, W], 0 or 1, at network input resolution; points are truncated to the
    pixel index, and those outside the canvas are on no mask.
    """
    height, width = masks.shape[-2:]
    x, y = points.long().unbind(-1)
    on_canvas = (points >= 0).all(dim=-1) & (x < width) & (y < height)
    if height == 0 or width == 0:
        return on_canvas[:, None].expand(len(points), len(masks))
    values = masks[:, y.clamp(0, height - 1), x.clamp(0, width - 1)] > 0
    return values.t() & on_canvas[:, None]
