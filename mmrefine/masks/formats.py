"""The two forms in which masks leave a model: dense booleans and RLE."""

import torch
from torch import Tensor

from .grids import MaskGrids
from .rle import RLE, to_dense
from .roi import roi_masks_to_rle

FORMATS = ('dense', 'rle')


def check_format(mask_format: str) -> str:
    """Refuse an unknown ``test_cfg.mask_format``.

    Raises:
        ValueError: Naming the choices.
    """
    if mask_format not in FORMATS:
        raise ValueError(f'mask_format must be one of {FORMATS}, got {mask_format!r}')
    return mask_format


def roi_masks(
    masks: Tensor | MaskGrids,
    boxes: Tensor,
    image_size: tuple[int, int],
    threshold: float = 0.5,
    mask_format: str = 'dense',
) -> Tensor | list[RLE]:
    """Resize RoI masks into their boxes and threshold them.

    Args:
        masks: Tensor[N, S, S], probabilities; or ``MaskGrids`` of N, for grids of several sizes.
        boxes: Tensor[N, 4], pixels of the output image.
        image_size: ``(h, w)`` of the output image.
        threshold: A pixel belongs to the mask where its probability is at least this.
        mask_format: ``'dense'`` or ``'rle'``.

    Returns:
        BoolTensor[N, h, w], or N RLEs, in the order of the boxes.

    Raises:
        ValueError: Unknown format, or the numbers of masks and boxes differ.
    """
    height, width = (int(side) for side in image_size)
    if len(masks) != len(boxes):
        raise ValueError(f'{len(masks)} masks but {len(boxes)} boxes')
    if check_format(mask_format) == 'dense' and len(masks) == 0:
        return torch.zeros((0, height, width), dtype=torch.bool, device=boxes.device)
    if isinstance(masks, Tensor):
        rles = roi_masks_to_rle(masks, boxes, (height, width), threshold)
    else:
        rles = _of_all_groups(masks, boxes, (height, width), threshold)
    return rles if mask_format == 'rle' else to_dense(rles, (height, width), boxes.device)


def _of_all_groups(
    grids: MaskGrids, boxes: Tensor, image_size: tuple[int, int], threshold: float
) -> list[RLE]:
    """RLEs of all groups, in the order of the boxes."""
    rles: list[RLE] = [{}] * len(boxes)
    for places, masks in grids.groups:
        found = roi_masks_to_rle(masks, boxes[places], image_size, threshold)
        for place, rle in zip(places.tolist(), found):
            rles[place] = rle
    return rles
