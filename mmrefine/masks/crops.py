"""Binary crops at integer offsets to RLEs of the whole image."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .rle import RLE, toggles_to_rle


def boxed_masks_to_rle(
    crops: Sequence[Tensor] | Tensor,
    offsets: Sequence[tuple[int, int]] | Tensor,
    image_size: tuple[int, int],
) -> list[RLE]:
    """Encode binary crops as masks of the image they were cut from.

    Args:
        crops: N bool Tensor[hc, wc] of any sizes, or one Tensor[N, hc, wc].
        offsets: N pairs ``(x, y)`` of integers: image pixel of each crop's top left corner. Parts
            of a crop outside the image are cut off.
        image_size: ``(h, w)`` of the image in pixels.

    Returns:
        N RLEs.

    Raises:
        ValueError: The numbers of crops and offsets differ, or a crop is not two-dimensional.
    """
    if len(crops) != len(offsets):
        raise ValueError(f'{len(crops)} crops but {len(offsets)} offsets')
    if len(crops) == 0:
        return []
    h, w = (int(side) for side in image_size)
    if isinstance(crops, Tensor):
        if crops.ndim != 3:
            raise ValueError(f'crops must have the shape (N, hc, wc), got {tuple(crops.shape)}')
        places = torch.as_tensor(offsets, device=crops.device).long()
        toggles = _stacked_toggles(crops.bool(), places, h, w)
    else:
        pairs = offsets.tolist() if isinstance(offsets, Tensor) else offsets
        parts = []
        for i, (crop, (x, y)) in enumerate(zip(crops, pairs)):
            if crop.ndim != 2:
                raise ValueError(f'crop {i} must have two dimensions, got {tuple(crop.shape)}')
            x, y = int(x), int(y)
            crop = crop[max(-y, 0) : max(h - y, 0), max(-x, 0) : max(w - x, 0)].bool()
            place = torch.tensor([[max(x, 0), max(y, 0)]], device=crop.device)
            parts.append(
                _stacked_toggles(crop[None], place, h, w) + torch.tensor([[i], [0]]).to(place)
            )
        toggles = torch.cat(parts, dim=1)
    owners, positions = toggles.cpu().numpy()
    return toggles_to_rle(positions, owners, len(crops), (h, w))


def _stacked_toggles(crops: Tensor, places: Tensor, h: int, w: int) -> Tensor:
    """Run boundaries of crops of one size.

    Args:
        crops: BoolTensor[N, hc, wc].
        places: LongTensor[N, 2], (x, y) of each crop in an image of ``h`` x ``w`` pixels.

    Returns:
        LongTensor[2, T]: owners, and column-major positions.
    """
    x = places[:, :1] + torch.arange(crops.shape[2], device=crops.device)
    y = places[:, 1:] + torch.arange(crops.shape[1], device=crops.device)
    columns = (crops & ((y >= 0) & (y < h))[:, :, None] & ((x >= 0) & (x < w))[:, None]).mT
    # Zeros around the columns make every run have both its boundaries inside its column.
    framed = F.pad(columns, (1, 1))
    owner, column, row = (framed[:, :, 1:] != framed[:, :, :-1]).nonzero(as_tuple=True)
    x, y = places[owner, 0] + column, places[owner, 1] + row
    return torch.stack([owner, x * h + y])
