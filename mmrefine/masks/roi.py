"""RoI masks to COCO RLE without pasting them into the image.

Origin of the arithmetic: mmdet 3.3 ``FCNMaskHead`` (one bilinear sample at every pixel centre,
zeros outside the grid), then ``encode_mask_results``; the strings equal theirs on the same device.

Shapes:   N instances, S side of the RoI grid, h x w output image.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .rle import RLE, toggles_to_rle
from .trace import (
    CHUNK,
    POINTS,
    Axis,
    Spans,
    Toggles,
    ragged_arange,
    resolve,
    rounding_error,
    trace_columns,
)

# Narrower boxes (in pixels) are evaluated pixel by pixel: their grid coordinates can overflow.
THINNEST = 1e-3


def roi_masks_to_rle(
    masks: Tensor,
    boxes: Tensor,
    image_size: tuple[int, int],
    threshold: float = 0.5,
    logits: bool = False,
    window: str | None = None,
) -> list[RLE]:
    """Resize every RoI mask into its box, threshold it with ``>=`` and encode it.

    Boxes outside the image give empty masks (mmdet's CPU path raises there). Boxes without width
    or height, and inverted ones, give whatever pixels mmdet's sampling gives.

    Args:
        masks: Tensor[N, S, S], probabilities, or logits where ``logits`` is set; any float type.
        boxes: Tensor[N, 4], (x1, y1, x2, y2) in pixels of the output image, exclusive.
        image_size: ``(h, w)`` of the output image.
        threshold: A pixel belongs to the mask where its probability is at least this; above 0.
        logits: Apply the sigmoid first, in the type of the masks.
        window: Where mask pixels may lie. ``'box'``: inside the box and one pixel around it, as in
            mmdet's CPU path. ``'image'``: anywhere, as in its CUDA path; differs only below a
            threshold of 0.5. Default: the rule mmdet has for the device of the masks.

    Returns:
        N RLEs, identical to those of mmdet's paste and encode.

    Raises:
        ValueError: Shapes disagree, a value is NaN or infinite, or the threshold is not above 0.
    """
    masks = (masks.sigmoid() if logits else masks).detach().float()
    boxes = boxes.detach().to(masks.device).float()
    if window is None:
        window = 'box' if masks.device.type == 'cpu' else 'image'
    _check(masks, boxes, threshold, window)
    n = len(masks)
    if n == 0:
        return []
    limits = _windows(boxes, masks.shape[1:], image_size, window)
    widths = (limits[:, 2] - limits[:, 0]).tolist()
    budget = CHUNK.get(masks.device.type, CHUNK['cuda']) // (masks.shape[1] + 2)
    keys = []
    begin = 0
    while begin < n:
        end, columns = begin + 1, widths[begin]
        while end < n and columns + widths[end] <= budget:
            columns += widths[end]
            end += 1
        part = slice(begin, end)
        toggles = _toggles(masks[part], boxes[part], limits[part], threshold)
        keys.append(torch.stack([toggles.owner + begin, toggles.x * image_size[0] + toggles.y]))
        begin = end
    owners, positions = torch.cat(keys, dim=1).cpu().numpy()
    return toggles_to_rle(positions, owners, n, image_size)


def _check(masks: Tensor, boxes: Tensor, threshold: float, window: str) -> None:
    if masks.ndim != 3 or boxes.shape != (len(masks), 4):
        raise ValueError(
            'masks must have the shape (N, S, S) and boxes (N, 4), '
            f'got {tuple(masks.shape)} and {tuple(boxes.shape)}'
        )
    if not threshold > 0:
        raise ValueError(f'threshold must be above 0, got {threshold}')
    if window not in ('box', 'image'):
        raise ValueError(f"window must be 'box' or 'image', got {window!r}")
    for name, values in (('box', boxes), ('mask', masks.flatten(1))):
        # Sums are cheaper than a test of every value; a sum of finite values below 1e30 is finite.
        finite = values.abs().sum(1).isfinite()
        if not finite.all():
            i = int((~finite).nonzero()[0])
            raise ValueError(f'{name} {i} of {len(values)} has NaN or infinite values')


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


def _toggles(masks: Tensor, boxes: Tensor, limits: Tensor, threshold: float) -> Toggles:
    """Find all run boundaries of one chunk of masks."""
    regular = (boxes[:, 2:] - boxes[:, :2] >= THINNEST).all(1)
    limits_regular = limits * regular[:, None]
    columns = _axis(
        boxes[:, 0], boxes[:, 2], limits_regular[:, 0], limits_regular[:, 2], masks.shape[2]
    )
    rows = _axis(
        boxes[:, 1], boxes[:, 3], limits_regular[:, 1], limits_regular[:, 3], masks.shape[1]
    )

    def inside(owner: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return _sample(masks, boxes, owner, x, y) >= threshold

    parts = []
    points = POINTS.get(masks.device.type, POINTS['cuda'])
    if len(columns.owner):
        largest = masks.abs().flatten(1).amax(1).clamp(min=threshold)
        tolerance = rounding_error(max(masks.shape[1:]), largest)
        knots = F.pad(masks.transpose(1, 2), (1, 1, 1, 1)) - threshold
        toggles, spans = trace_columns(knots, tolerance, columns, rows)
        parts.append(toggles)
        parts += [resolve(chunk, inside) for chunk in spans.chunks(points)]
    spans = _whole_columns(limits * ~regular[:, None])
    parts += [resolve(chunk, inside) for chunk in spans.chunks(points)]
    return Toggles.cat(parts) if parts else Toggles(*limits.new_zeros((3, 0)))


def _axis(low: Tensor, high: Tensor, first: Tensor, last: Tensor, size: int) -> Axis:
    """Place pixel centres on the RoI grid; knot 0 is the zero padding before its first cell."""
    counts = last - first
    owner, index = ragged_arange(counts)
    pixel = first[owner] + index
    place = ((_normalise(pixel, low[owner], high[owner]) + 1) * size + 1) / 2
    scale = (high - low) / size
    return Axis(
        owner, pixel, place, first, counts.cumsum(0) - counts, scale, low - 0.5 * scale - 0.5
    )


def _normalise(pixel: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Pixel indices to ``grid_sample`` coordinates, operation by operation as mmdet does."""
    place = (pixel.float() + 0.5 - low) / (high - low) * 2 - 1
    return place.masked_fill(place.isinf(), 0)


def _whole_columns(limits: Tensor) -> Spans:
    """Make spans of all pixel columns of the windows."""
    owner, index = ragged_arange(limits[:, 2] - limits[:, 0])
    y, length = limits[owner, 1], (limits[:, 3] - limits[:, 1])[owner]
    outside = torch.zeros_like(owner, dtype=torch.bool)
    return Spans(owner, limits[owner, 0] + index, y, length, outside, outside)


def _sample(masks: Tensor, boxes: Tensor, owner: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Evaluate masks at single pixels with ``grid_sample``: LongTensor[Q] each -> Tensor[Q].

    Points go in blocks that belong to one mask: ``grid_sample`` takes one image per batch item.
    """
    box = boxes[owner]
    grid = torch.stack(
        [_normalise(x, box[:, 0], box[:, 2]), _normalise(y, box[:, 1], box[:, 3])], 1
    )
    size = min(max(len(owner) // len(masks), 64), 1024)
    counts = torch.bincount(owner, minlength=len(masks))
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
