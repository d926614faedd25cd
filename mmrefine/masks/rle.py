"""Write COCO run-length encoding, from dense masks, crops or run boundaries.

A COCO RLE walks the mask column by column. Its counts are the lengths of alternating runs, zeros
first, and the string packs them five bits to a character (format: cocoapi ``maskApi.c``).

Shapes:   N masks, h x w image, T run boundaries of all masks together.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from pycocotools import mask as coco_mask
from torch import Tensor

RLE = dict


def encode(masks: Tensor | np.ndarray) -> list[RLE]:
    """Encode dense masks: bool or 0/1 Tensor[N, h, w] (or array) -> N ``dict(size=[h, w],
    counts=bytes)``."""
    if isinstance(masks, Tensor):
        masks = masks.detach().cpu().numpy()
    if masks.ndim != 3:
        raise ValueError(f'masks must have the shape (N, h, w), got {tuple(masks.shape)}')
    if masks.shape[0] == 0:
        return []
    columns = np.asfortranarray(masks.astype(bool).view(np.uint8).transpose(1, 2, 0))
    return coco_mask.encode(columns)


def boxed_masks_to_rle(
    crops: Sequence[Tensor] | Tensor,
    offsets: Sequence[tuple[int, int]] | Tensor,
    image_size: tuple[int, int],
) -> list[RLE]:
    """Encode binary crops as masks of the image they were cut from, whatever lies outside it cut
    off.

    N bool Tensor[hc, wc] of any sizes, or one Tensor[N, hc, wc]; ``offsets`` are N pairs ``(x, y)``
    of integers, image pixel of each crop's top left corner; ``image_size`` is ``(h, w)`` in pixels.
    """
    if len(crops) == 0:
        return []
    h, w = (int(side) for side in image_size)
    corners = torch.as_tensor(offsets).to(crops[0].device).long()  # (N, 2)
    if isinstance(crops, Tensor):
        toggles = _crop_toggles(crops.bool(), corners, h, w)
    else:
        parts = []
        for i, crop in enumerate(crops):
            part = _crop_toggles(crop[None].bool(), corners[i : i + 1], h, w)
            part[0] += i
            parts.append(part)
        toggles = torch.cat(parts, dim=1)
    owners, positions = toggles.cpu().numpy()
    return toggles_to_rle(positions, owners, len(crops), (h, w))


def _crop_toggles(crops: Tensor, corners: Tensor, h: int, w: int) -> Tensor:
    """Run boundaries of BoolTensor[N, hc, wc]: LongTensor[2, T], owners, column-major positions."""
    x = corners[:, :1] + torch.arange(crops.shape[2], device=crops.device)  # (N, wc)
    y = corners[:, 1:] + torch.arange(crops.shape[1], device=crops.device)  # (N, hc)
    columns = (crops & ((y >= 0) & (y < h))[:, :, None] & ((x >= 0) & (x < w))[:, None]).mT
    # Zeros around the columns make every run have both its boundaries inside its column.
    framed = F.pad(columns, (1, 1))
    owner, column, row = (framed[:, :, 1:] != framed[:, :, :-1]).nonzero(as_tuple=True)
    return torch.stack([owner, (corners[owner, 0] + column) * h + corners[owner, 1] + row])


def toggles_to_rle(
    toggles: np.ndarray, owners: np.ndarray, count: int, image_size: tuple[int, int]
) -> list[RLE]:
    """Build the RLE strings of many masks from their run boundaries.

    Args:
        toggles: int64 array[T], column-major pixel positions (``x * h + y``, at most ``h * w``) at
            which a mask changes its value. Any order; a position given twice cancels out.
        owners: int64 array[T], index of the mask that each boundary belongs to.
        count: Number of masks; masks without boundaries are empty.
        image_size: ``(h, w)``.
    """
    if count == 0:
        return []
    h, w = image_size
    area = h * w
    # Most boundaries come in order, and a stable sort merges what is sorted.
    keys = np.sort(owners * (area + 1) + toggles, kind='stable')
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    keys = keys[starts[np.diff(starts, append=len(keys)) % 2 == 1]]
    keys = keys[keys % (area + 1) != area]
    # One run ends at every boundary and one at the end of each image.
    ends = np.arange(count, dtype=np.int64) * (area + 1) + area
    keys = np.sort(np.concatenate([keys, ends]), kind='stable')
    owner, position = np.divmod(keys, area + 1)
    first = np.diff(owner, prepend=-1) != 0
    counts = np.where(first, position, np.diff(position, prepend=0))
    starts = np.flatnonzero(first)
    return [{'size': [int(h), int(w)], 'counts': text} for text in _pack(counts, starts)]


def _pack(counts: np.ndarray, starts: np.ndarray) -> list[bytes]:
    """Write run lengths, int64 array[R], R > 0, as COCO strings; array[N] says where each mask's
    begin."""
    order = np.arange(len(counts)) - np.repeat(starts, np.diff(starts, append=len(counts)))
    # From the fourth run on the format stores the difference to the run two places before.
    value = counts.copy()
    late = np.flatnonzero(order > 2)
    value[late] -= counts[late - 2]
    # One pass writes one character of every run that still has bits left.
    length = np.zeros(len(value), dtype=np.int64)
    characters, alive = [], np.arange(len(value))
    while len(alive):
        digit = value & 0x1F
        value >>= 5
        # Done when the rest is all sign bits and the sign is visible in bit 4.
        more = value != -(digit >> 4)
        characters.append((alive, (digit + (more << 5) + 48).astype(np.uint8)))
        length[alive] += 1
        alive, value = alive[more], value[more]
    after = np.cumsum(length)
    text = np.empty(after[-1], dtype=np.uint8)
    for place, (run, character) in enumerate(characters):
        text[after[run] - length[run] + place] = character
    joined = text.tobytes()
    ends = after[np.append(starts[1:], len(counts)) - 1]
    return [joined[a:b] for a, b in zip([0, *ends[:-1].tolist()], ends.tolist())]
