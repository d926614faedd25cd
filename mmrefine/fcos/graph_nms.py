"""Suppression with fixed shapes, which a graph of the detector can hold.

Shapes:   B sets of N boxes, K classes.
"""

from collections.abc import Mapping
from typing import Any

import torch
from mmcv.ops import nms
from torch import Tensor


def suppress_in_graph(
    boxes: Tensor, scores: Tensor, labels: Tensor, cfg: Mapping[str, Any], limit: int | None
) -> tuple[Tensor, Tensor]:
    """``nms.suppress`` while a graph is traced; greedy types and ``'fast'`` only."""
    groups = torch.zeros_like(labels) if cfg.get('class_agnostic', False) else labels
    last = torch.cat([groups, groups.new_zeros(1)]).max()  # a graph has no largest of nothing
    each = torch.arange(last + 1, device=groups.device)[:, None]
    rows = torch.where(groups == each, scores, 0)  # (K, N)
    if cfg.get('type') == 'fast':
        found, index = rows.topk(at_most(scores, cfg.get('top_k', 200)))  # (K, T) each
        worse = overlaps_more(boxes[index], cfg['iou_threshold']).triu(diagonal=1).any(dim=1)
        row, rank = (~worse & (found > 0)).nonzero(as_tuple=True)
        kept = index[row, rank]
    else:
        boxes = boxes + boxes.new_tensor([0, 0, 1, 1]) * cfg.get('offset', 0)
        least = float(cfg.get('score_threshold', 0))
        kept = class_nms(boxes[None], rows[None], float(cfg['iou_threshold']), least)[:, 2]
    limits = [n for n in (cfg.get('max_num', -1), limit) if n is not None and n > 0]
    ranked, best = scores[kept].topk(at_most(kept, min(limits, default=None)))
    return kept[best], ranked


def at_most(values: Tensor, limit: int | None) -> Tensor | int:
    """``limit``, or the number of values where a graph has fewer or there is no limit."""
    if not torch.jit.is_tracing():
        return len(values) if limit is None or limit < 0 else limit
    count = torch.as_tensor(values.shape[0])
    return count if limit is None or limit < 0 else count.clamp(max=limit)


@torch.library.custom_op('mmrefine::class_nms', mutates_args=())
def class_nms(
    boxes: Tensor, scores: Tensor, iou_threshold: float, score_threshold: float
) -> Tensor:
    """Suppress boxes greedily inside every set and class.

    Args:
        boxes: Tensor[B, N, 4].
        scores: Tensor[B, K, N]; boxes up to ``score_threshold`` are left out.
        iou_threshold: Boxes that overlap a better one by more go.
        score_threshold: See ``scores``.

    Returns:
        LongTensor[n, 3], set, class and box of what is kept, best first inside a class.
    """
    found = [torch.zeros((0, 3), dtype=torch.long, device=boxes.device)]
    for number, (some, rows) in enumerate(zip(boxes, scores)):
        for label in (rows > score_threshold).any(1).nonzero()[:, 0].tolist():
            chosen = (rows[label] > score_threshold).nonzero()[:, 0]
            kept = chosen[nms(some[chosen].contiguous(), rows[label, chosen], iou_threshold)[1]]
            places = kept.new_tensor([[number, label]]).expand(len(kept), 2)
            found.append(torch.cat([places, kept[:, None]], dim=1))
    return torch.cat(found)


def overlaps_more(boxes: Tensor, threshold: float) -> Tensor:
    """Whether two boxes of a group overlap by more than ``threshold``: [G, W, 4] -> [G, W, W].

    Compares the intersection with a share of the union; dividing them costs more than the rest.
    """
    low, high = boxes.unsqueeze(2).split(2, dim=-1)  # (G, W, 1, 2)
    sides = high.minimum(high.transpose(1, 2)) - low.maximum(low.transpose(1, 2))
    width, height = sides.clamp_(min=0).unbind(-1)  # (G, W, W) each
    inter = width * height
    area = (high - low).prod(dim=-1)  # (G, W, 1)
    return inter > (area + area.transpose(1, 2)).sub_(inter).mul_(threshold)
