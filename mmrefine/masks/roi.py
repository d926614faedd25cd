"""RoI masks to COCO RLE without pasting them into the image.

Origin of the arithmetic: mmdet 3.3 ``FCNMaskHead`` (one bilinear sample at every pixel centre, zeros
outside the grid), then ``encode_mask_results``; the strings equal theirs.

Shapes:   N instances, S side of the RoI grid, h x w output image.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .crops import boxed_masks_to_rle
from .rle import RLE


def roi_masks_to_rle(
    masks: Tensor,
    boxes: Tensor,
    image_size: tuple[int, int],
    threshold: float = 0.5,
    logits: bool = False,
) -> list[RLE]:
    """Resize every RoI mask into its box, threshold it with ``>=`` and encode it.

    Args:
        masks: Tensor[N, S, S], probabilities, or logits where ``logits`` is set.
        boxes: Tensor[N, 4], (x1, y1, x2, y2) in pixels of the output image, exclusive.
        image_size: ``(h, w)`` of the output image.
        threshold: A pixel belongs to the mask where its probability is at least this.
        logits: Apply the sigmoid first.

    Returns:
        N RLEs, identical to those of mmdet's paste and encode.

    Raises:
        ValueError: Shapes disagree, or a box or mask has NaN.
    """
    h, w = image_size
    masks = (masks.sigmoid() if logits else masks).float()
    boxes = boxes.float()
    crops, offsets = [], []
    for mask, box in zip(masks, boxes):
        x0, y0 = (box[:2].floor() - 1).clamp(min=0).int().tolist()
        x1 = int((box[2].ceil() + 1).clamp(max=w))
        y1 = int((box[3].ceil() + 1).clamp(max=h))
        y = torch.arange(y0, max(y1, y0), device=box.device).float() + 0.5
        x = torch.arange(x0, max(x1, x0), device=box.device).float() + 0.5
        y = (y - box[1]) / (box[3] - box[1]) * 2 - 1
        x = (x - box[0]) / (box[2] - box[0]) * 2 - 1
        y = y.masked_fill(y.isinf(), 0)[:, None].expand(-1, len(x))
        x = x.masked_fill(x.isinf(), 0)[None].expand(len(y), -1)
        soft = F.grid_sample(mask[None, None], torch.stack([x, y], -1)[None], align_corners=False)
        crops.append(soft[0, 0] >= threshold)
        offsets.append((x0, y0))
    return boxed_masks_to_rle(crops, offsets, image_size)
