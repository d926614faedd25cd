"""Segment given boxes with a patch network: the second use of DeepMask and SharpMask.

Origin:   the detector and tracker demos of foolwood/deepmask-pytorch
Changes:  batched crops on the device; masks go to the image without a full-size map.

Shapes:   N boxes, P patch side with context, S mask side.
"""

from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor
from torch.nn import functional as F

from mmrefine.masks import in_format, roi_masks_to_rle

# training frames an object so that its longer side fills 128/224 of the window
WINDOW_PER_OBJECT = 224 / 128


def window_boxes(boxes: Tensor) -> Tensor:
    """Square windows Tensor[N, 4] that frame the objects as in training."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).amax(1, keepdim=True) * WINDOW_PER_OBJECT / 2
    return torch.cat([centres - half, centres + half], 1)


def crop_patches(image: Tensor, windows: Tensor, size: int, fill: Tensor) -> Tensor:
    """Resample square windows of an image.

    Args:
        image: Tensor[1, 3, h, w].
        windows: Tensor[N, 4] in image pixels; may reach beyond the image.
        size: Side of the patches.
        fill: Tensor[3], colour outside the image.

    Returns:
        Tensor[N, 3, size, size].
    """
    height, width = image.shape[-2:]
    steps = (torch.arange(size, device=image.device) + 0.5) / size
    x = windows[:, 0, None] + (windows[:, 2] - windows[:, 0])[:, None] * steps
    y = windows[:, 1, None] + (windows[:, 3] - windows[:, 1])[:, None] * steps
    x, y = x / width * 2 - 1, y / height * 2 - 1
    count = len(windows)
    grid = torch.stack(
        [x[:, None].expand(count, size, size), y[:, :, None].expand(count, size, size)], -1
    )
    colour = fill.view(1, 3, 1, 1)
    source = (image - colour).expand(count, -1, -1, -1)
    return F.grid_sample(source, grid.to(image), align_corners=False) + colour


def crop_boxes(detector: Any, image: Tensor, boxes: Tensor, mask_thr: float) -> InstanceData:
    """Run a DeepMask or SharpMask detector on the windows of given boxes.

    Args:
        detector: ``DeepMask`` or a subclass.
        image: Normalised Tensor[1, 3, h, w].
        boxes: Tensor[N, 4], (x1, y1, x2, y2) in image pixels, with positive width and height.
        mask_thr: Foreground probability.

    Returns:
        ``masks``, ``bboxes``, ``scores``.

    Raises:
        ValueError: A box is empty, inverted or not finite.
    """
    valid = (boxes[:, 2:] > boxes[:, :2]).all(1) & boxes.isfinite().all(1)
    if not bool(valid.all()):
        bad = boxes[~valid][0].tolist()
        raise ValueError(
            f'boxes must be finite (x1, y1, x2, y2) with x2 > x1 and y2 > y1, got {bad}'
        )
    windows = window_boxes(boxes.float())
    ring = detector.context / detector.mask_head.grid_size * (windows[:, 2:] - windows[:, :2])
    outer = torch.cat([windows[:, :2] - ring, windows[:, 2:] + ring], 1)
    size = (detector.mask_head.grid_size + 2 * detector.context) * 16
    fill, image_size = detector.fill_colour(image), tuple(image.shape[-2:])
    rles, scores = [], [boxes.new_zeros(0)]
    for part in torch.arange(len(boxes), device=boxes.device).split(detector.test_cfg['chunk']):
        logits, score = detector._forward(crop_patches(image, outer[part], size, fill))
        rles += roi_masks_to_rle(logits, windows[part], image_size, mask_thr, logits=True)
        scores.append(score.sigmoid())
    masks = in_format(rles, image_size, detector.test_cfg['mask_format'], boxes.device)
    return InstanceData(bboxes=boxes, masks=masks, scores=torch.cat(scores))
