"""From dense scores to the few detections of an image: selection and suppression.

Shapes: P points, K classes, N boxes. Scores are probabilities; labels count from 0.
"""

from collections.abc import Callable

import torch
from mmcv.ops import nms
from torch import Tensor


def class_candidates(
    class_probs: Tensor,
    factors: Tensor,
    threshold: float,
    limit: int | None = None,
    filter_by_product: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Take the best (point, class) pairs of one level; a point may appear under several classes.

    Args:
        class_probs: Tensor[P, K].
        factors: Tensor[P], multiplied into the score (centerness); ranks the pairs.
        threshold: Pairs must exceed it, strictly.
        limit: Largest number of pairs; None keeps every one.
        filter_by_product: Compare the product with the threshold; by default the class
            probability alone.

    Returns:
        Scores Tensor[N] (products), point indices LongTensor[N] and labels LongTensor[N], in grid
        order.
    """
    products = class_probs * factors[:, None]
    passes = (products if filter_by_product else class_probs) > threshold
    points, labels = passes.nonzero(as_tuple=True)
    scores = products[points, labels]
    if limit is not None and len(scores) > limit:
        best = scores.topk(limit).indices.sort().values
        scores, points, labels = scores[best], points[best], labels[best]
    return scores, points, labels


def best_points(class_probs: Tensor, factors: Tensor, limit: int) -> Tensor:
    """Indices of the ``limit`` points of one level with the best product, or of all points.

    Tensor[P, K], Tensor[P] -> LongTensor[min(P, limit)]; in grid order if nothing is cut.
    """
    num_points = len(class_probs)
    if num_points <= limit:
        return torch.arange(num_points, device=class_probs.device)
    return (class_probs.amax(dim=1) * factors).topk(limit).indices


def class_nms(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    iou_threshold: float,
    offset: int = 0,
    limit: int | None = None,
) -> Tensor:
    """Greedy suppression inside every class; returns kept indices LongTensor[N], best score first.

    Each class is suppressed on its own coordinates. The usual trick, one call with the classes
    shifted apart, rounds the boxes and changes which of two near-threshold boxes survives.

    Args:
        boxes: Tensor[N, 4], finite; N may be 0.
        offset: 1 computes the overlap with legacy pixel counting.
        limit: Keep the best ones over all classes.
    """
    order = torch.sort(labels, stable=True).indices
    counts = labels.unique(return_counts=True)[1].tolist() if len(labels) else []
    kept = [order[:0]]
    for group in order.split(counts):
        _, inside = nms(boxes[group].float(), scores[group].float(), iou_threshold, offset=offset)
        kept.append(group[inside])
    kept = torch.cat(kept)
    ranked = torch.sort(scores[kept], descending=True, stable=True).indices
    return kept[ranked[:limit]]


def fast_class_nms(
    boxes: Tensor,
    class_scores: Tensor,
    iou_threshold: float,
    score_threshold: float,
    top_k: int = 200,
    limit: int = 100,
) -> tuple[Tensor, Tensor, Tensor]:
    """Suppress in parallel inside every class (YOLACT's fast NMS, no legacy pixel counting).

    A box is dropped if any better box of its class overlaps it, even one dropped itself.

    Args:
        boxes: Tensor[P, 4].
        class_scores: Tensor[P, K].
        score_threshold: Kept scores exceed it, strictly.
        top_k: Boxes per class that take part.
        limit: Largest number of results over all classes.

    Returns:
        Scores Tensor[N] (descending), point indices LongTensor[N], labels LongTensor[N].
    """
    # NaN would sort before every score.
    scores = class_scores.nan_to_num(nan=-1.0)
    ranked, points = scores.t().topk(min(top_k, len(scores)), dim=1)
    # Scores at or below the threshold neither survive nor suppress a survivor: cut the width.
    width = int((ranked > score_threshold).sum(dim=1).amax()) if ranked.numel() else 0
    ranked, points = ranked[:, :width], points[:, :width]
    suppressed = _overlaps_more(boxes[points], iou_threshold).triu_(diagonal=1).any(dim=1)
    keep = ~suppressed & (ranked > score_threshold)
    labels = torch.arange(len(ranked), device=boxes.device)[:, None].expand_as(points)[keep]
    scores, points = ranked[keep], points[keep]
    scores, best = scores.sort(descending=True, stable=True)
    best = best[:limit]
    return scores[:limit], points[best], labels[best]


def _overlaps_more(boxes: Tensor, threshold: float) -> Tensor:
    """Whether two boxes of a class overlap by more than ``threshold``: [K, n, 4] -> [K, n, n].

    Compares the intersection with a share of the union; dividing them costs more than the rest.
    """
    x1, y1, x2, y2 = boxes.float().unbind(dim=-1)
    width = (_pairs(torch.minimum, x2) - _pairs(torch.maximum, x1)).clamp_(min=0)
    height = (_pairs(torch.minimum, y2) - _pairs(torch.maximum, y1)).clamp_(min=0)
    inter = width.mul_(height)
    return inter > _pairs(torch.add, (x2 - x1) * (y2 - y1)).sub_(inter).mul_(threshold)


def _pairs(function: Callable[[Tensor, Tensor], Tensor], values: Tensor) -> Tensor:
    return function(values[:, :, None], values[:, None])
