"""Mask targets at half the input resolution."""

import torch
import torch.nn.functional as F
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from torch import Tensor


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
        count = masks.view(torch.uint8).unflatten(2, (-1, 2)).sum(dim=3, dtype=torch.uint8)
        halved = count.unflatten(1, (-1, 2)).sum(dim=2, dtype=torch.uint8) > 2
    halved = halved[:, : size[0], : size[1]]
    return F.pad(halved, (0, size[1] - halved.shape[2], 0, size[0] - halved.shape[1]))
