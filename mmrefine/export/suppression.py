"""Suppression class by class, as one operator that is NonMaxSuppression in ONNX.

Shapes:   B sets of N boxes, K classes.
"""

from typing import Any

import torch
from mmcv.ops import nms
from torch import Tensor
from torch.onnx import register_custom_op_symbolic, symbolic_helper

from .pooling import OPSET

ALL = 2**31 - 1  # boxes of a class, no limit


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
    found = [torch.zeros((0, 3), dtype=torch.long)]
    for number, (some, rows) in enumerate(zip(boxes, scores)):
        for label in (rows > score_threshold).any(1).nonzero()[:, 0].tolist():
            chosen = (rows[label] > score_threshold).nonzero()[:, 0]
            kept = chosen[nms(some[chosen].contiguous(), rows[label, chosen], iou_threshold)[1]]
            places = torch.tensor([[number, label]]).expand(len(kept), 2)
            found.append(torch.cat([places, kept[:, None]], dim=1))
    return torch.cat(found)


@symbolic_helper.parse_args('v', 'v', 'f', 'f')
def _node(graph: Any, boxes: Any, scores: Any, iou: float, score: float) -> Any:
    limit, iou_threshold, score_threshold = (
        graph.op('Constant', value_t=torch.tensor([value])) for value in (ALL, iou, score)
    )
    return graph.op('NonMaxSuppression', boxes, scores, limit, iou_threshold, score_threshold)


register_custom_op_symbolic('mmrefine::class_nms', _node, OPSET)
