"""From predictions of all points to the few detections of an image, each with its embedding and
margin.

Shapes: P points of all levels, K classes, D embedding dimensions, M margin dimensions, N
        detections.
"""

from typing import NamedTuple

import torch
from mmdet.utils import ConfigType
from mmengine.structures import InstanceData
from torch import Tensor

from mmrefine.fcos import class_candidates, class_nms, clip_boxes


class PointPredictions(NamedTuple):
    """Everything predicted for one image, in grid order.

    Attributes:
        class_probs: Tensor[P, K].
        factors: Tensor[P], multiplied into the scores (centerness), ones if the head has none.
        boxes: Tensor[P, 4], pixels of the network input, not clipped.
        embeds: Tensor[P, D].
        margins: Tensor[P, M].
    """

    class_probs: Tensor
    factors: Tensor
    boxes: Tensor
    embeds: Tensor
    margins: Tensor


def select_detections(
    points: PointPredictions,
    counts: tuple[int, ...],
    image_size: tuple[int, int],
    cfg: ConfigType,
    offset: int = 0,
) -> InstanceData:
    """Rank, suppress and cut the candidates of one image.

    Args:
        points: Predictions of the image.
        counts: Points per level.
        image_size: (height, width) of the image without padding, pixels of the network input.
        cfg: ``nms_pre`` candidates per level (1000), ``score_thr`` (0.05), ``nms.iou_threshold``
            (0.6), ``max_per_img`` (100); ``filter_by_product`` compares score times factor with the
            threshold instead of the score alone; ``sqrt_score`` reports the root of the product;
            ``clip_before_nms`` (True).
        offset: 1 counts pixels in overlaps and limits boxes to the last pixel, as v1-v3 do.

    Returns:
        ``bboxes`` Tensor[N, 4] (clipped), ``scores``, ``labels``, ``embeds``, ``margins``, best
        score first.
    """
    per_level = []
    start = 0
    for count in counts:
        part = slice(start, start + count)
        scores, index, labels = class_candidates(
            points.class_probs[part],
            points.factors[part],
            cfg.get('score_thr', 0.05),
            cfg.get('nms_pre', 1000),
            cfg.get('filter_by_product', False),
        )
        per_level.append((scores, index + start, labels))
        start += count
    scores, index, labels = (torch.cat(field) for field in zip(*per_level))
    boxes = points.boxes[index]
    clipped = clip_boxes(boxes, image_size, offset)
    if cfg.get('clip_before_nms', True):
        boxes = clipped
    threshold = cfg.get('nms', {}).get('iou_threshold', 0.6)
    keep = class_nms(boxes, scores, labels, threshold, offset, cfg.get('max_per_img', 100))
    scores = scores[keep].sqrt() if cfg.get('sqrt_score', False) else scores[keep]
    chosen = index[keep]
    return InstanceData(
        bboxes=clipped[keep],
        scores=scores,
        labels=labels[keep],
        embeds=points.embeds[chosen],
        margins=points.margins[chosen],
    )
