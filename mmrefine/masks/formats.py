"""The two formats in which masks leave a model: dense booleans and RLE."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .grids import MaskGrids
from .rle import RLE, to_dense
from .rle_masks import RLEMasks
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


def in_format(
    rles: Sequence[RLE],
    image_size: tuple[int, int],
    mask_format: str,
    device: torch.device | str | None = None,
) -> Tensor | RLEMasks:
    """Bring the masks of an image to the format in which they leave the model.

    Args:
        rles: COCO RLEs.
        image_size: ``(h, w)``.
        mask_format: ``'dense'`` or ``'rle'``.
        device: Where dense masks go; default: the CPU.

    Returns:
        BoolTensor[N, h, w] or ``RLEMasks``.

    Raises:
        ValueError: Unknown format.
    """
    if check_format(mask_format) == 'rle':
        return RLEMasks(rles, image_size)
    return to_dense(rles, image_size, device)


def roi_masks(
    masks: Tensor | MaskGrids,
    boxes: Tensor,
    image_size: tuple[int, int],
    threshold: float = 0.5,
    mask_format: str = 'dense',
) -> Tensor | RLEMasks:
    """Resize RoI masks into their boxes and threshold them.

    Args:
        masks: Tensor[N, S, S], probabilities; or ``MaskGrids`` of N, for grids of several sizes.
        boxes: Tensor[N, 4], pixels of the output image.
        image_size: ``(h, w)`` of the output image.
        threshold: A pixel belongs to the mask where its probability is at least this.
        mask_format: ``'dense'`` or ``'rle'``.

    Returns:
        BoolTensor[N, h, w] or N RLEs, in the order of the boxes.

    Raises:
        ValueError: Unknown format, or the numbers of masks and boxes differ.
    """
    if len(masks) != len(boxes):
        raise ValueError(f'{len(masks)} masks but {len(boxes)} boxes')
    grids = MaskGrids.of_one_size(masks) if isinstance(masks, Tensor) else masks
    rles: list[RLE] = [{}] * len(boxes)
    for positions, group in grids.groups:
        found = roi_masks_to_rle(group, boxes[positions], image_size, threshold)
        for position, rle in zip(positions.tolist(), found):
            rles[position] = rle
    return in_format(rles, image_size, mask_format, boxes.device)
