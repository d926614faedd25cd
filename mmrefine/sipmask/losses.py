"""Training of the masks: targets, samples and their weights, mask loss, mask-IoU loss.

Paper:    SipMask, https://arxiv.org/abs/2007.14772, section 3.3 (mask-alignment weighting loss).

Shapes:   n positives or samples of one image, G objects of it, M pixels inside the samples' boxes
          (order of ``assembly.BoxPixels``).
"""

import torch
import torch.nn.functional as F
from mmcv.ops import nms
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.structures import InstanceData
from torch import Tensor

from mmrefine.fcos import paired_iou

from .assembly import BoxPixels

MASK_THRESHOLD = 0.4
MIN_OBJECT_CELLS = 100


def half_masks(
    masks: BitmapMasks | PolygonMasks | Tensor,
    size: tuple[int, int],
    device: torch.device,
    image_size: tuple[int, int] | None = None,
) -> Tensor:
    """Halve masks by area: a cell is 1 if more than half of its pixels are.

    Args:
        masks: G masks at input resolution; image sized or padded.
        size: (Hb, Wb) of the result; the rest of it is 0, surplus masks are cut.
        device: Of the result.
        image_size: (h, w). Parity: cut the masks to it first and halve them as they are, so an
            odd side of 5 becomes 2 cells of 2.5 pixels; by default odd sides get a zero row.

    Returns:
        BoolTensor[G, Hb, Wb].
    """
    if not torch.is_tensor(masks):
        masks = masks.to_tensor(dtype=torch.bool, device=device)
    height, width = masks.shape[-2:] if image_size is None else image_size
    masks = masks.to(device=device, dtype=torch.bool)[:, :height, :width]
    if image_size is None:
        masks = F.pad(masks, (0, width % 2, 0, height % 2))
    height, width = masks.shape[-2:]
    if height % 2 or width % 2:
        halved = F.interpolate(
            masks[:, None].float(), (height // 2, width // 2), mode='bilinear', align_corners=False
        )
        halved = halved[:, 0] > 0.5
    else:
        # Counting bytes takes a quarter of the memory that averaging floats does.
        count = masks.view(torch.uint8).unflatten(2, (-1, 2)).sum(dim=3, dtype=torch.uint8)
        halved = count.unflatten(1, (-1, 2)).sum(dim=2, dtype=torch.uint8) > 2  # (G, h/2, w/2)
    halved = halved[:, : size[0], : size[1]]
    return F.pad(halved, (0, size[1] - halved.shape[2], 0, size[0] - halved.shape[1]))


def select_samples(
    positives: InstanceData,
    gt_boxes: Tensor,
    keep_inverted: bool = False,
    iou_offset: float = 0.0,
    weight_eps: float = 1e-4,
    nms_threshold: float | None = None,
) -> InstanceData:
    """Drop boxes of up to one pixel at half resolution, and weight the rest by score times overlap,
    mean about 1.

    Args:
        positives: ``bboxes`` Tensor[n, 4] in pixels, ``scores`` Tensor[n], ``gt_inds``; all other
            fields follow the selection.
        gt_boxes: Tensor[G, 4], pixels.
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
    half = positives.bboxes / 2  # (n, 4)
    sides = half[:, 2:] - half[:, :2]
    keep = sides.prod(dim=1) > 1
    if not keep_inverted:
        keep &= (sides > 0).all(dim=1)
    kept = keep.nonzero()[:, 0]  # once: each field would search for them
    samples, half = positives[kept], half[kept]
    overlap = paired_iou(gt_boxes[samples.gt_inds] / 2, half, iou_offset)
    quality = samples.scores * overlap  # (m), the weight before normalisation
    total = (quality.sum() + weight_eps).clamp(min=torch.finfo(quality.dtype).tiny)
    samples.weights = quality / total * len(quality)
    if nms_threshold is not None and len(samples):
        _, kept = nms(half, samples.scores, nms_threshold, offset=1)
        samples = samples[kept.sort().values]
    return samples


def weighted_mask_loss(
    logits: Tensor, targets: Tensor, pixels: BoxPixels, samples: InstanceData
) -> Tensor:
    """Sum over the samples of weight / n * (BCE inside the box) / (box area).

    Prediction and target are both 0 outside the predicted box, so only its pixels count: Tensor[M]
    each, targets 0 or 1. Samples have ``bboxes`` Tensor[n, 4] in input pixels and ``weights``
    Tensor[n], mean about 1.
    """
    sides = (samples.bboxes[:, 2:] - samples.bboxes[:, :2]) / 2
    share = samples.weights / sides.prod(dim=1) / max(len(samples), 1)  # (n)
    # On logits: equals the original's loss on probabilities, but keeps a gradient where the sigmoid
    # saturates in float32 (beyond about 17).
    return F.binary_cross_entropy_with_logits(
        logits, targets.to(logits.dtype), weight=share.float()[pixels.box], reduction='sum'
    )


def mask_iou_target(
    probs: Tensor, targets: Tensor, pixels: BoxPixels, object_cells: Tensor
) -> tuple[Tensor, Tensor]:
    """True overlap of every binarised sample with its whole object, and 1 where it counts: above
    0.1, of an object of 100 cells at least.

    Probabilities Tensor[M]; BoolTensor[M], the object inside the box; cells Tensor[n] of the whole
    object at half resolution -> Tensor[n] each.
    """
    chosen = probs > MASK_THRESHOLD
    inter, predicted = (
        probs.new_zeros(len(object_cells)).index_add(0, pixels.box, one.to(probs.dtype))
        for one in (chosen & targets, chosen)
    )
    overlap = inter / (predicted + object_cells - inter + 0.1)
    counts = (overlap > 0.1) & (overlap <= 1) & (object_cells >= MIN_OBJECT_CELLS)
    return overlap, counts.to(probs.dtype)


def mask_iou_loss(predicted: Tensor, overlap: Tensor, counts: Tensor) -> Tensor:
    """Mean squared error over the samples that count; Tensor[n] each, all images together."""
    return (counts * (predicted - overlap) ** 2).sum() / (0.1 + counts.sum())
