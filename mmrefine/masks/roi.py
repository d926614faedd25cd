"""RoI masks to COCO RLE or dense masks without pasting them into the image.

Origin of the arithmetic: mmdet 3.3 ``FCNMaskHead`` (one bilinear sample at every pixel centre,
zeros outside the grid), then ``encode_mask_results``; the strings equal theirs on the same device.

A mask head may give small objects coarser grids than large ones: ``MaskGrids``.

Shapes:   N instances, n of them with one grid size, S side of a grid, h x w output image.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .formats import RLEMasks, check_format
from .rle import RLE
from .trace import (
    CHUNK,
    Axis,
    chunk_sizes,
    encode_toggles,
    evaluate,
    ragged_arange,
    rounding_error,
    tally,
    toggled_masks,
    trace_columns,
)

# Narrower boxes (in pixels) are evaluated pixel by pixel: their grid coordinates can overflow.
THINNEST = 1e-3


class GridGroup(NamedTuple):
    """Instances whose masks share one grid size."""

    places: Tensor  # LongTensor[n], positions in the list, ascending
    masks: Tensor  # (n, S, S)


class MaskGrids:
    """Masks of N instances on grids of several sizes; ``len`` is N.

    Args:
        groups: Every position from 0 to N - 1 stands in exactly one group; groups may be empty.
    """

    def __init__(self, groups: Sequence[GridGroup]) -> None:
        for places, masks in groups:
            if masks.ndim != 3 or places.shape != masks.shape[:1]:
                raise ValueError(
                    'a group has places (n,) and masks (n, S, S), got '
                    f'{tuple(places.shape)} and {tuple(masks.shape)}'
                )
        self.groups = tuple(groups)

    @classmethod
    def of_one_size(cls, masks: Tensor) -> 'MaskGrids':
        """Tensor[N, S, S] as a single group."""
        return cls([GridGroup(torch.arange(len(masks), device=masks.device), masks)])

    def __len__(self) -> int:
        return sum(len(group.places) for group in self.groups)

    def split(self, counts: Sequence[int]) -> list['MaskGrids']:
        """Cut the list into consecutive parts of these lengths, one per image."""
        if sum(counts) != len(self):
            raise ValueError(f'parts of {sum(counts)} instances, but there are {len(self)}')
        if len(self.groups) == 1:
            return [MaskGrids.of_one_size(m) for m in self.groups[0].masks.split(list(counts))]
        parts: list[list[GridGroup]] = [[] for _ in counts]
        for places, masks in self.groups:
            ends = torch.tensor(list(counts), device=places.device).cumsum(0)
            part = torch.bucketize(places, ends, right=True)
            sizes = torch.bincount(part, minlength=len(counts)).tolist()
            pairs = zip(places.split(sizes), masks.split(sizes))
            for groups, (place, mask), end, count in zip(parts, pairs, ends, counts):
                groups.append(GridGroup(place - (end - count), mask))
        return [MaskGrids(groups) for groups in parts]

    def as_list(self) -> list[Tensor]:
        """One Tensor[S, S] an instance, in the order of the list."""
        found = {p: mask for ps, masks in self.groups for p, mask in zip(ps.tolist(), masks)}
        return [found[place] for place in sorted(found)]


def roi_masks(
    masks: Tensor | MaskGrids,
    boxes: Tensor,
    image_size: tuple[int, int],
    threshold: float = 0.5,
    mask_format: str = 'dense',
) -> Tensor | RLEMasks | MaskGrids:
    """Resize every RoI mask into its box and threshold it with ``>=``.

    Boxes outside the image give empty masks (mmdet's CPU path raises there). Boxes without width
    or height, and inverted ones, give whatever pixels mmdet's sampling gives.

    Args:
        masks: Tensor[N, S, S], probabilities of any float type; or ``MaskGrids`` of N.
        boxes: Tensor[N, 4], (x1, y1, x2, y2) in pixels of the output image, exclusive.
        image_size: ``(h, w)`` of the output image.
        threshold: A pixel belongs to the mask where its probability is at least this; above 0.
        mask_format: ``'dense'`` or ``'rle'``; ``'grids'`` gives the probabilities as they are,
            for the average of several views.

    Returns:
        BoolTensor[N, h, w], N RLEs (identical to those of mmdet's paste and encode) or
        ``MaskGrids``, in the order of the boxes.

    Raises:
        ValueError: Shapes disagree, a value is NaN or infinite, or the threshold is not above 0.
    """
    if len(masks) != len(boxes):
        raise ValueError(f'{len(masks)} masks but {len(boxes)} boxes')
    grids = MaskGrids.of_one_size(masks) if isinstance(masks, Tensor) else masks
    if mask_format == 'grids':
        return grids
    check_format(mask_format)
    parts = [torch.zeros((3, 0), dtype=torch.long, device=boxes.device)]
    for positions, group in grids.groups:
        owner, x, y = _roi_toggles(group, boxes[positions], image_size, threshold)
        parts.append(torch.stack([positions[owner], x, y]))
    toggles = torch.cat(parts, dim=1)
    return toggled_masks(toggles, len(boxes), image_size, mask_format)


def roi_masks_to_rle(
    masks: Tensor,
    boxes: Tensor,
    image_size: tuple[int, int],
    threshold: float = 0.5,
    logits: bool = False,
    window: str | None = None,
) -> list[RLE]:
    """``roi_masks`` of one grid size as plain RLEs.

    ``logits`` applies the sigmoid first, in the type of the masks. ``window`` is where mask pixels
    may lie: ``'box'``, inside the box and one pixel around it, as in mmdet's CPU path; ``'image'``,
    anywhere, as in its CUDA path, which differs only below a threshold of 0.5. Default: the rule
    mmdet has for the device of the masks.
    """
    masks = masks.sigmoid() if logits else masks
    toggles = _roi_toggles(masks, boxes, image_size, threshold, window)
    return encode_toggles(toggles, len(masks), image_size)


def _roi_toggles(
    masks: Tensor,
    boxes: Tensor,
    image_size: tuple[int, int],
    threshold: float,
    window: str | None = None,
) -> Tensor:
    """Run boundaries of all masks: LongTensor[3, T], (mask, column, row)."""
    masks = masks.detach().float()
    boxes = boxes.detach().to(masks.device).float()
    if window is None:
        window = 'box' if masks.device.type == 'cpu' else 'image'
    _check(masks, boxes, threshold, window)
    if len(masks) == 0:
        return boxes.new_zeros((3, 0), dtype=torch.long)
    largest = _largest(masks, boxes)
    limits = _windows(boxes, masks.shape[1:], image_size, window)
    regular = (boxes[:, 2:] - boxes[:, :2] >= THINNEST).all(1, keepdim=True)
    # The sizes are wanted on the host: fetched once.
    sides = torch.cat([limits[:, 2:] - limits[:, :2], regular], dim=1).cpu()  # (N, 3)
    sizes = chunk_sizes(sides[:, 0], CHUNK, masks.device, share=masks.shape[1] + 2)
    tolerance = rounding_error(max(masks.shape[1:]), largest.clamp(min=threshold))
    certain, spans, begin = [limits.new_zeros((3, 0))], [limits.new_zeros((6, 0))], 0
    chunks = zip(*(v.split(sizes) for v in (masks, tolerance, boxes, limits * regular, sides)))
    for some, bound, box, limit, side in chunks:
        totals = (side[:, :2] * side[:, 2:]).sum(0).tolist()
        if totals[0]:
            columns, rows = (
                _axis(box, limit, axis, some.shape[2 - axis], totals[axis]) for axis in (0, 1)
            )
            found = trace_columns(_knots(some, threshold), bound, columns, rows)
            for parts, part in zip((certain, spans), found):
                part[0] += begin
                parts.append(part)
        begin += len(some)

    def inside(owner: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return _sample(masks, boxes, owner, x, y) >= threshold

    if not sides[:, 2].all():
        certain += evaluate(_whole_columns(limits * ~regular), inside)
    return torch.cat([*certain, *evaluate(torch.cat(spans, dim=1), inside)], dim=1)


def _check(masks: Tensor, boxes: Tensor, threshold: float, window: str) -> None:
    if masks.ndim != 3 or boxes.shape != (len(masks), 4):
        raise ValueError(
            'masks must have the shape (N, S, S) and boxes (N, 4), '
            f'got {tuple(masks.shape)} and {tuple(boxes.shape)}'
        )
    if not threshold > 0:
        raise ValueError(
            f'the threshold of masks (test_cfg.mask_thr_binary) must be above 0, got {threshold}'
        )
    if window not in ('box', 'image'):
        raise ValueError(f"window must be 'box' or 'image', got {window!r}")


def _largest(masks: Tensor, boxes: Tensor) -> Tensor:
    """Find the largest magnitude in each mask: Tensor[N, S, S] -> Tensor[N].

    Raises:
        ValueError: A mask or a box has a NaN or an infinite value.
    """
    # Extremes show both, without a copy of all values.
    extremes = [torch.maximum(v.amax(1), -v.amin(1)) for v in (boxes, masks.flatten(1))]
    finite = torch.stack(extremes).isfinite()
    if not finite.all():
        kind, i = (~finite).nonzero()[0].tolist()
        raise ValueError(f'{("box", "mask")[kind]} {i} of {len(masks)} has NaN or infinite values')
    return extremes[1]


def _knots(masks: Tensor, threshold: float) -> Tensor:
    """Put zeros around every grid, columns first, and subtract the threshold: Tensor[n, S, S] ->
    (n, S + 2, S + 2)."""
    n, height, width = masks.shape
    knots = masks.new_full((n, width + 2, height + 2), -threshold)
    torch.sub(masks.mT, threshold, out=knots[:, 1:-1, 1:-1])
    return knots


def _windows(boxes: Tensor, grid: torch.Size, image_size: tuple[int, int], window: str) -> Tensor:
    """Integer pixel windows outside of which masks are empty: LongTensor[N, 4], exclusive."""
    limit = boxes.new_tensor([image_size[1], image_size[0]])
    low, high = boxes[:, :2], boxes[:, 2:]
    if window == 'image':
        # A mask fades out half a grid step outside its box; degenerate boxes reach everywhere.
        half = (high - low) / (2 * boxes.new_tensor([grid[1], grid[0]]))
        thin = high - low < THINNEST
        low, high = (low - half).masked_fill(thin, 0), torch.where(thin, limit, high + half)
    first = torch.minimum((low.floor() - 1).clamp(min=0), limit)
    last = torch.minimum((high.ceil() + 1).clamp(min=0), limit)
    visible = (last > first).all(dim=1, keepdim=True)
    return torch.cat([first, torch.where(visible, last, first)], dim=1).long()


def _axis(boxes: Tensor, limits: Tensor, axis: int, size: int, total: int) -> Axis:
    """Place pixel centres on the RoI grid; knot 0 is the zero padding before its first cell."""
    low, high = boxes[:, axis], boxes[:, axis + 2]
    scale = (high - low) / size

    def place(owner: Tensor, pixel: Tensor) -> Tensor:
        return ((_normalise(pixel, low[owner], high[owner]) + 1) * size + 1) / 2

    first, last = limits[:, axis], limits[:, axis + 2]
    return Axis.between(first, last, place, scale, low - 0.5 * scale - 0.5, total)


def _normalise(pixel: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Pixel indices to ``grid_sample`` coordinates, operation by operation as mmdet does."""
    place = (pixel.float() + 0.5 - low) / (high - low) * 2 - 1
    return place.masked_fill(place.isinf(), 0)


def _whole_columns(limits: Tensor) -> Tensor:
    """Make spans of all pixel columns of the windows: LongTensor[6, P], see ``evaluate``."""
    owner, index = ragged_arange(limits[:, 2] - limits[:, 0])
    x, y = limits[owner, 0] + index, limits[owner, 1]
    outside = torch.zeros_like(owner)
    return torch.stack([owner, x, y, limits[owner, 3] - y, outside, outside])


def _sample(masks: Tensor, boxes: Tensor, owner: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Evaluate masks at single pixels with ``grid_sample``: LongTensor[Q] each, owners ascending ->
    Tensor[Q].

    Points go in blocks that belong to one mask: ``grid_sample`` takes one image per batch item.
    """
    box = boxes[owner]
    grid = torch.stack(
        [_normalise(x, box[:, 0], box[:, 2]), _normalise(y, box[:, 1], box[:, 3])], 1
    )
    size = min(max(len(owner) // len(masks), 64), 1024)
    counts = tally(owner, len(masks))
    blocks = (counts + size - 1) // size
    rank = torch.arange(len(owner), device=owner.device) - (counts.cumsum(0) - counts)[owner]
    slot = (blocks.cumsum(0) - blocks)[owner] * size + rank
    block_owner = torch.repeat_interleave(blocks)
    padded = grid.new_zeros((len(block_owner) * size, 2))
    padded[slot] = grid
    values = F.grid_sample(
        masks[block_owner][:, None], padded.view(-1, 1, size, 2), align_corners=False
    )
    return values.flatten()[slot]
