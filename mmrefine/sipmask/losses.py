"""The mask loss weighted by detection quality, and the mask-IoU loss of SipMask++.

Paper:    SipMask, https://arxiv.org/abs/2007.14772, section 3.3.

Shapes:   n samples of one image, M pixels inside their boxes (order of ``cells.Regions``).
"""

import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData
from torch import Tensor

from .cells import Regions

MASK_THRESHOLD = 0.4
MIN_OBJECT_CELLS = 100


def weighted_mask_loss(
    logits: Tensor, targets: Tensor, regions: Regions, samples: InstanceData
) -> Tensor:
    """Sum over the samples of weight / n * (BCE inside the box) / (box area).

    Prediction and target are both 0 outside the predicted box, so only its pixels count.

    Args:
        logits: Tensor[M].
        targets: Tensor[M], 0 or 1.
        regions: The boxes of the samples.
        samples: ``bboxes`` Tensor[n, 4] in input pixels, ``weights`` Tensor[n], mean about 1.
    """
    sides = (samples.bboxes[:, 2:] - samples.bboxes[:, :2]) / 2
    share = samples.weights / sides.prod(dim=1) / max(len(samples), 1)
    weight = regions.spread(share.float())
    # On logits: equals the original's loss on probabilities, but keeps a gradient where the sigmoid
    # saturates in float32 (beyond about 17).
    return F.binary_cross_entropy_with_logits(
        logits, targets.to(logits.dtype), weight=weight, reduction='sum'
    )


def mask_iou_target(
    probs: Tensor, targets: Tensor, regions: Regions, object_cells: Tensor
) -> tuple[Tensor, Tensor]:
    """True overlap of every binarised sample with its whole object.

    Args:
        probs: Tensor[M], composed probabilities.
        targets: BoolTensor[M], the object inside the box.
        regions: The boxes.
        object_cells: Tensor[n], cells of the whole object at half resolution.

    Returns:
        Overlap Tensor[n], and 1 where it counts: overlap above 0.1 and object of 100 cells at
    least.
    """
    chosen = probs > MASK_THRESHOLD
    box = regions.spread(torch.arange(len(object_cells), device=probs.device))
    inter, predicted = (
        probs.new_zeros(len(object_cells)).index_add(0, box, one.to(probs.dtype))
        for one in (chosen & targets, chosen)
    )
    overlap = inter / (predicted + object_cells - inter + 0.1)
    counts = (overlap > 0.1) & (overlap <= 1) & (object_cells >= MIN_OBJECT_CELLS)
    return overlap, counts.to(probs.dtype)


def mask_iou_loss(predicted: Tensor, overlap: Tensor, counts: Tensor) -> Tensor:
    """Mean squared error over the samples that count; Tensor[n] each, all images together."""
    return (counts * (predicted - overlap) ** 2).sum() / (0.1 + counts.sum())
