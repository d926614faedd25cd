"""COCO run-length encoding: from run boundaries to strings, and back to dense masks.

A COCO RLE walks the mask column by column. Its counts are the lengths of alternating runs, zeros
first, and the string packs them five bits to a character (format: cocoapi ``maskApi.c``).

Shapes:   N masks, h x w image, T run boundaries of all masks together.
"""

from collections.abc import Sequence

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor

RLE = dict


def encode(masks: Tensor | np.ndarray) -> list[RLE]:
    """Encode dense masks.

    Args:
        masks: Bool or 0/1 Tensor[N, h, w] (or array) on any device.

    Returns:
        One ``dict(size=[h, w], counts=bytes)`` a mask.

    Raises:
        ValueError: ``masks`` has not three dimensions.
    """
    if isinstance(masks, Tensor):
        masks = masks.detach().cpu().numpy()
    if masks.ndim != 3:
        raise ValueError(f'masks must have the shape (N, h, w), got {tuple(masks.shape)}')
    if masks.shape[0] == 0:
        return []
    columns = np.asfortranarray(masks.astype(bool).view(np.uint8).transpose(1, 2, 0))
    return coco_mask.encode(columns)


def to_dense(
    masks: Sequence[RLE] | Tensor | np.ndarray,
    image_size: tuple[int, int] | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Decode masks of either format; what is dense already passes through.

    Args:
        masks: RLEs (counts as bytes, string or uncompressed list), or a Tensor[N, h, w].
        image_size: ``(h, w)`` that every mask must have. Needed only when there are no masks.
        device: Where to put the result; default: where the tensor is, or the CPU.

    Returns:
        BoolTensor[N, h, w].

    Raises:
        ValueError: Sizes differ, or there is no mask and ``image_size`` is missing.
    """
    if isinstance(masks, (Tensor, np.ndarray)):
        dense = torch.as_tensor(masks, device=device).bool()
        if image_size is not None and tuple(dense.shape[-2:]) != tuple(image_size):
            raise ValueError(f'masks are {tuple(dense.shape[-2:])}, the image is {image_size}')
        return dense
    sizes = {tuple(rle['size']) for rle in masks}
    if image_size is None and not sizes:
        raise ValueError('no masks to take the size from: pass image_size=(h, w)')
    h, w = image_size if image_size is not None else next(iter(sizes))
    if sizes - {(h, w)}:
        raise ValueError(f'masks must all have the size {(h, w)}, got {sorted(sizes)}')
    dense = torch.empty((len(masks), h, w), dtype=torch.bool)
    for i, rle in enumerate(masks):
        if isinstance(rle['counts'], list):
            rle = coco_mask.frPyObjects(rle, h, w)
        dense[i] = torch.from_numpy(coco_mask.decode(rle))
    return dense.to(device) if device is not None else dense


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

    Returns:
        ``count`` RLEs, equal to ``pycocotools.mask.encode`` of the dense masks.
    """
    if count == 0:
        return []
    h, w = image_size
    area = h * w
    keys = np.sort(owners * (area + 1) + toggles)
    keys = keys[_odd_groups(keys)]
    keys = keys[keys % (area + 1) != area]
    # One run ends at every boundary and one at the end of each image.
    ends = np.arange(count, dtype=np.int64) * (area + 1) + area
    keys = np.sort(np.concatenate([keys, ends]))
    owner, position = np.divmod(keys, area + 1)
    first = np.ones(len(keys), dtype=bool)
    first[1:] = owner[1:] != owner[:-1]
    counts = np.diff(position, prepend=0)
    counts[first] = position[first]
    starts = np.flatnonzero(first)
    return [{'size': [int(h), int(w)], 'counts': text} for text in _pack(counts, starts)]


def _odd_groups(keys: np.ndarray) -> np.ndarray:
    """Index one element of every group of equal sorted keys that has an odd size."""
    if len(keys) == 0:
        return np.zeros(0, dtype=np.int64)
    starts = np.flatnonzero(np.diff(keys, prepend=keys[0] - 1))
    return starts[np.diff(starts, append=len(keys)) % 2 == 1]


def _pack(counts: np.ndarray, starts: np.ndarray) -> list[bytes]:
    """Write run lengths as COCO strings.

    Args:
        counts: int64 array[R], run lengths of all masks, R > 0.
        starts: int64 array[N], where each mask's runs begin.
    """
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
    begins = np.append(0, ends[:-1])
    return [joined[a:b] for a, b in zip(begins.tolist(), ends.tolist())]
