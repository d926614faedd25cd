"""Binary crops at integer offsets to RLEs of the whole image."""

from collections.abc import Sequence

import numpy as np
import torch
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
    offsets = offsets.tolist() if isinstance(offsets, Tensor) else list(offsets)
    if len(crops) != len(offsets):
        raise ValueError(f'{len(crops)} crops but {len(offsets)} offsets')
    h, w = image_size
    toggles, owners = [], []
    for i, (crop, (x, y)) in enumerate(zip(crops, offsets)):
        if crop.ndim != 2:
            raise ValueError(f'crop {i} must have two dimensions, got shape {tuple(crop.shape)}')
        x, y = int(x), int(y)
        crop = crop[max(-y, 0) : max(h - y, 0), max(-x, 0) : max(w - x, 0)].bool()
        if crop.numel() == 0:
            continue
        # Zeros around the columns make every run have both its boundaries inside its column.
        edge = torch.diff(torch.nn.functional.pad(crop.T.byte(), (1, 1)), dim=1)
        column, row = edge.nonzero(as_tuple=True)
        position = (column + max(x, 0)) * h + row + max(y, 0)
        toggles.append(position.cpu().numpy())
        owners.append(np.full(len(position), i, dtype=np.int64))
    flat = np.concatenate(toggles) if toggles else np.zeros(0, dtype=np.int64)
    owner = np.concatenate(owners) if owners else np.zeros(0, dtype=np.int64)
    return toggles_to_rle(flat, owner, len(crops), (h, w))
