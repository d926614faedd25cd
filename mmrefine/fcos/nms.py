"""Suppression of overlapping detections, by the ``nms`` settings of a test config.

Shapes: N boxes. Labels count from 0.
"""

from collections.abc import Mapping
from typing import Any

import torch
from mmcv.ops import batched_nms, nms
from torch import Tensor

from mmrefine.masks.trace import chunk_sizes, ragged_arange

from .boxes import paired_iou
from .graph_nms import overlaps_more, suppress_in_graph

# Pairs of boxes compared at once.
PAIRS = {'cpu': 2**20, 'cuda': 2**24}
ROUNDS = 4  # of the suppression before the host looks whether it is done
# Type -> its own settings beside those of all types.
KINDS = {
    'greedy': ('max_num', 'offset', 'score_threshold'),
    'fast': ('max_num', 'top_k'),
    'nms': ('max_num', 'offset', 'score_threshold'),
    'soft_nms': ('offset', 'sigma', 'min_score', 'method'),
}
SHARED = ('type', 'iou_threshold', 'class_agnostic', 'split_thr')


def suppress(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    settings: Mapping[str, Any] | None,
    limit: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Suppress the overlapping boxes of one image, class by class.

    Args:
        boxes: Tensor[N, 4], finite; N may be 0.
        scores: Tensor[N].
        labels: LongTensor[N].
        settings: What ``mmcv.ops.batched_nms`` takes: ``type='nms'`` or ``'soft_nms'`` and its
            keys, ``class_agnostic``, ``split_thr``; or one of two more types:
            ``'greedy'`` (default) is ``'nms'`` on the coordinates of the boxes themselves, see
            ``greedy_nms``; ``'fast'`` is YOLACT's, see ``fast_nms``. None suppresses nothing.
        limit: Keep the best ones over all classes; None or a negative number keeps all.

    Returns:
        Kept indices LongTensor[n] and their scores Tensor[n], best first; ``'soft_nms'`` lowers
        scores, the other types leave them.

    Raises:
        ValueError: If the type or a key is unknown, or the threshold missing.
    """
    cfg = _checked(settings) if settings is not None else {}
    kind = cfg.get('type', 'greedy')
    if torch.jit.is_tracing():
        return suppress_in_graph(boxes, scores, labels, cfg, limit)
    limit = len(boxes) if limit is None or limit < 0 else limit
    boxes, scores = boxes.float(), scores.float()
    if len(boxes) == 0:
        return labels.long(), scores
    if settings is None or kind in ('nms', 'soft_nms'):
        found, kept = batched_nms(boxes, scores, labels, cfg or None)
        return kept[:limit], found[:limit, -1]
    groups = torch.zeros_like(labels) if cfg.get('class_agnostic', False) else labels
    limit = min(limit, cfg['max_num']) if cfg.get('max_num', -1) > 0 else limit
    if kind == 'fast':
        kept = fast_nms(boxes, scores, groups, cfg['iou_threshold'], cfg.get('top_k', 200))
    else:
        known = {key: cfg[key] for key in ('offset', 'score_threshold') if key in cfg}
        kept = greedy_nms(boxes, scores, groups, cfg['iou_threshold'], **known)
    ranked, best = scores[kept].sort(descending=True, stable=True)
    return kept[best[:limit]], ranked[:limit]


def _checked(settings: Mapping[str, Any]) -> dict[str, Any]:
    cfg = dict(settings)
    if 'iou_thr' in cfg and 'iou_threshold' not in cfg:  # mmcv takes the former name
        cfg['iou_threshold'] = cfg.pop('iou_thr')
    kind = cfg.get('type', 'greedy')
    if kind not in KINDS:
        raise ValueError(f'unknown nms type {kind!r}: use one of {", ".join(KINDS)}')
    known = (*SHARED, *KINDS[kind])
    if unknown := [key for key in cfg if key not in known]:
        raise ValueError(
            f'unknown key {unknown[0]!r} in nms={dict(settings)}: {kind!r} takes {", ".join(known)}'
        )
    if 'iou_threshold' not in cfg and kind != 'soft_nms':  # which has a default
        raise ValueError(f'nms={dict(settings)} has no iou_threshold')
    return cfg


def greedy_nms(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor,
    iou_threshold: float,
    offset: int = 0,
    score_threshold: float = 0.0,
) -> Tensor:
    """Greedy suppression inside every group -> kept indices LongTensor[n], group after group.

    Each group is suppressed on its own coordinates. One call with the groups shifted apart
    (``type='nms'``) rounds the boxes, which changes which of two near-threshold boxes survives.
    ``offset=1`` counts pixels in overlaps; a ``score_threshold`` above 0 leaves out lower scores.
    """
    if boxes.device.type != 'cpu':  # a launch and a wait for every group would take longest
        return _greedy_pairs(boxes, scores, groups, iou_threshold, offset, score_threshold)
    order = torch.sort(groups, stable=True).indices
    counts = groups.unique(return_counts=True)[1].tolist()
    args = (iou_threshold, offset, score_threshold)
    kept = [group[nms(boxes[group], scores[group], *args)[1]] for group in order.split(counts)]
    return torch.cat([order[:0], *kept])


def _greedy_pairs(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor,
    iou_threshold: float,
    offset: int,
    score_threshold: float,
) -> Tensor:
    """``greedy_nms`` of all groups at once, from the pairs of boxes that overlap too much.

    A box is kept if none of the better boxes that overlap it is kept. Beginning with all boxes,
    round k of this rule settles those to which chains of k - 1 boxes lead; chains are short.
    """
    order = scores.argsort(descending=True, stable=True)
    order = order[groups[order].argsort(stable=True)]
    if score_threshold > 0:
        order = order[scores[order] > score_threshold]
    boxes, groups = boxes[order], groups[order]
    end = torch.searchsorted(groups, groups, right=True)
    place = torch.arange(len(order), device=order.device)
    worse = end - place - 1  # boxes further down in the group
    found, begin = [order.new_zeros((2, 0))], 0
    for size in chunk_sizes(worse, PAIRS, worse.device):
        first, step = ragged_arange(worse[begin : begin + size])
        first = first + begin
        second = first + step + 1
        over = paired_iou(boxes[first], boxes[second], offset) > iou_threshold
        found.append(torch.stack([first, second])[:, over])
        begin += size
    first, second = torch.cat(found, dim=1)
    kept = torch.ones_like(order, dtype=torch.bool)
    while True:
        for _ in range(ROUNDS):
            hits = torch.zeros_like(order).index_add_(0, second, kept[first].long())
            before, kept = kept, hits == 0
        if torch.equal(before, kept):
            return order[kept]


def fast_nms(
    boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float, top_k: int = 200
) -> Tensor:
    """Suppress in parallel inside every group (YOLACT's fast NMS, no legacy pixel counting).

    A box is dropped if any better box of its group overlaps it, even one dropped itself; ``top_k``
    boxes per group take part. Kept indices LongTensor[n] come group after group, best first inside.
    """
    order = scores.argsort(descending=True, stable=True)
    order = order[groups[order].argsort(stable=True)]
    _, row, counts = groups[order].unique_consecutive(return_inverse=True, return_counts=True)
    rank = torch.arange(len(order), device=order.device) - (counts.cumsum(0) - counts)[row]
    taking_part = rank < top_k
    order, row, rank = order[taking_part], row[taking_part], rank[taking_part]
    # One table row per group, best box first; empty boxes fill it up and overlap nothing.
    width = int(counts.amax().clamp(max=top_k)) if len(order) else 0
    table = boxes.new_zeros(len(counts), width, 4)  # (G, W, 4)
    table[row, rank] = boxes[order]
    suppressed = overlaps_more(table, iou_threshold).triu(diagonal=1).any(dim=1)  # (G, W)
    return order[~suppressed[row, rank]]
