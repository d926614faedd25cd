"""Which positive points train the masks, and how much each counts.

Paper:    SipMask, https://arxiv.org/abs/2007.14772, section 3.3 (mask-alignment weighting loss).

Shapes:   n positives of one image, G objects of it.
"""

import torch
from mmcv.ops import nms
from mmengine.structures import InstanceData
from torch import Tensor

from mmrefine.fcos import paired_iou


def select_samples(
    positives: InstanceData,
    gt_boxes: Tensor,
    min_area: float = 1.0,
    keep_inverted: bool = False,
    iou_offset: float = 0.0,
    weight_eps: float = 1e-4,
    nms_threshold: float | None = None,
) -> InstanceData:
    """Drop hopeless boxes and weight the rest by class score times box overlap, mean about 1.

    Args:
        positives: ``bboxes`` Tensor[n, 4] in pixels, ``scores`` Tensor[n], ``gt_inds``; all other
            fields follow the selection.
        gt_boxes: Tensor[G, 4], pixels.
        min_area: Boxes need more than this area, in half-resolution pixels.
        keep_inverted: Parity: boxes inverted along both axes have a positive product of sides and
            pass in the originals.
        iou_offset: Parity: 1 computes overlaps with legacy pixel counting, at half resolution.
        weight_eps: Added to the sum that normalises the weights. Parity: the benchmark generation
            has none; a sum of 0 then counts as the smallest positive number, not as NaN.
        nms_threshold: Benchmark generation: greedy suppression among the samples of an image, after
            the weights were normalised. None keeps all.

    Returns:
        The selected positives with ``weights`` Tensor[m] added, in their order.
    """
    half = positives.bboxes / 2
    sides = half[:, 2:] - half[:, :2]
    keep = sides.prod(dim=1) > min_area
    if not keep_inverted:
        keep &= (sides > 0).all(dim=1)
    samples = positives[keep]
    half = half[keep]
    overlap = paired_iou(gt_boxes[samples.gt_inds] / 2, half, iou_offset)
    merit = samples.scores * overlap
    total = (merit.sum() + weight_eps).clamp(min=torch.finfo(merit.dtype).tiny)
    samples.weights = merit / total * len(merit)
    if nms_threshold is not None and len(samples):
        _, kept = nms(half, samples.scores, nms_threshold, offset=1)
        samples = samples[kept.sort().values]
    return samples
