"""Find where soft masks cross their threshold, pixel column by pixel column, on the device.

Along a pixel column a bilinearly resized mask is a straight line between two rows of its grid, so
it crosses the threshold at most once there. Work is therefore columns x grid rows, not columns x
pixel rows. Rounding decides the pixels whose value lies within ``tolerance`` of the threshold;
those are evaluated one by one, with the very operator that the result must agree with.

Shapes:   N masks, X x Y grid columns and rows, C pixel columns and R pixel rows of all masks,
          T pixels at which a mask changes its value, P vertical pixel spans, Q pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .formats import RLEMasks, check_format
from .rle import RLE, toggles_to_rle

# Grid values per chunk, on the CPU about what its second-level cache holds.
CHUNK = {'cpu': 2**19, 'cuda': 2**24}
# Pixels per chunk that are evaluated one by one.
POINTS = {'cpu': 2**18, 'cuda': 2**22}
# Pixels of dense masks drawn at once.
FILLED = 2**25

# From (mask, column, row), LongTensor[Q] each, to BoolTensor[Q]: the pixels inside.
Inside = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass
class Axis:
    """Pixels of one axis for all masks, one mask after the other."""

    owner: Tensor  # LongTensor[R], mask of each pixel
    pixel: Tensor  # LongTensor[R], image coordinate of each pixel
    # Tensor[R], where the pixel's centre lies on the mask's grid, in grid steps. Grows with the
    # pixel
    place: Tensor
    first: Tensor  # LongTensor[N], image coordinate of each mask's first pixel
    base: Tensor  # LongTensor[N], index of that pixel in the arrays above
    scale: Tensor  # (N,), pixels per grid step
    # Tensor[N], image coordinate at grid place 0; pixel coordinate of a pixel's centre
    shift: Tensor

    @classmethod
    def between(
        cls,
        first: Tensor,
        last: Tensor,
        place: Callable[[Tensor, Tensor], Tensor],
        scale: Tensor,
        shift: Tensor,
        total: int | None = None,
    ) -> 'Axis':
        """Pixels ``first`` to ``last`` (exclusive) of each mask; ``place`` maps owner and pixel."""
        counts = last - first
        owner, index = ragged_arange(counts, total)
        pixel = first[owner] + index
        base = counts.cumsum(0) - counts
        return cls(owner, pixel, place(owner, pixel), first, base, scale, shift)


def rounding_error(size: int, largest: Tensor) -> Tensor:
    """Bound the difference between our value of a pixel and that of the operator to agree with.

    Both compute coordinates of the ``size`` of the grid (its longer side) with a few roundings
    each, which the slope of the mask turns into value errors on two axes; about 30 more roundings
    happen to the values, Tensor[N] being the largest of each mask.
    """
    return (24 * size + 32) * 2.0**-24 * largest


def ragged_arange(counts: Tensor, total: int | None = None) -> tuple[Tensor, Tensor]:
    """Count up inside groups: LongTensor[N] of sizes -> owner and index, each LongTensor[sum].

    Where the caller knows it, ``total``, the sum, saves waiting for the device.
    """
    owner = torch.repeat_interleave(counts, output_size=total)
    start = counts.cumsum(0) - counts
    return owner, torch.arange(len(owner), device=counts.device) - start.index_select(0, owner)


def tally(index: Tensor, size: int) -> Tensor:
    """Count every number: LongTensor[R] -> LongTensor[size]. ``bincount`` waits for the device."""
    return index.new_zeros(size).index_add_(0, index, torch.ones_like(index))


def chunk_sizes(
    work: Tensor, limits: dict[str, int], device: torch.device, share: int = 1
) -> list[int]:
    """Cut items into consecutive chunks: lengths of chunks of about ``limits / share`` work on a
    device."""
    budget = max(limits.get(device.type, limits['cuda']) // share, 1)
    chunk = (work.cumsum(0) // budget).cpu()
    return chunk.unique_consecutive(return_counts=True)[1].tolist()


def encode_toggles(toggles: Tensor, n: int, image_size: tuple[int, int]) -> list[RLE]:
    """Encode ``n`` masks from LongTensor[3, T] of (mask, column, row)."""
    owner, x, y = toggles
    owners, positions = torch.stack([owner, x * image_size[0] + y]).cpu().numpy()
    return toggles_to_rle(positions, owners, n, image_size)


def toggled_masks(
    toggles: Tensor, n: int, image_size: tuple[int, int], mask_format: str
) -> Tensor | RLEMasks:
    """The masks of ``encode_toggles`` in the format in which they leave the model.

    Raises:
        ValueError: Unknown format.
    """
    if check_format(mask_format) == 'rle':
        return RLEMasks(encode_toggles(toggles, n, image_size), image_size)
    return fill_toggles(toggles, n, image_size)


def fill_toggles(toggles: Tensor, n: int, image_size: tuple[int, int]) -> Tensor:
    """Draw ``n`` masks from LongTensor[3, T] of (mask, column, row): BoolTensor[n, h, w] on its
    device."""
    (h, w), (owner, x, y) = image_size, toggles
    masks = torch.empty((n, h, w), dtype=torch.bool, device=toggles.device)
    step = max(FILLED // (h * w), 1)
    for begin in range(0, n, step):
        count = min(step, n - begin)
        # A row below the image ends the runs at its edge; one more cell takes the other masks.
        cells = count * w * (h + 1)
        at = ((owner - begin) * w + x) * (h + 1) + y
        at = torch.where((owner >= begin) & (owner < begin + count), at, cells)
        counts = torch.zeros(cells + 1, dtype=torch.uint8, device=toggles.device)
        counts.index_add_(0, at, torch.ones_like(at, dtype=torch.uint8))
        columns = counts[:-1].view(count, w, h + 1).cumsum(2, dtype=torch.uint8)
        masks[begin : begin + count] = (columns[:, :, :h].mT & 1).bool()
    return masks


def trace_columns(
    knots: Tensor, tolerance: Tensor, columns: Axis, rows: Axis
) -> tuple[Tensor, Tensor]:
    """Find the pixels at which masks change their value, looking down a column.

    Args:
        knots: Tensor[N, X, Y], grid values minus the threshold, columns first. The first and last
            grid row must be negative: columns start and end outside the mask.
        tolerance: Tensor[N], largest rounding error of a value, in the unit of the knots.
        columns, rows: Of pixels; those before the first or after the last knot are outside.

    Returns:
        LongTensor[3, T], (mask, column, row), of the certain ones; the row is one past the last
        where a run ends with its column. LongTensor[6, P], spans of the pixels that are to be
        evaluated for the others. Both in the order of the columns.
    """
    n, width, height = knots.shape
    cell = columns.place.floor().clamp(0, width - 2)
    left = columns.owner * width + cell.long()
    fraction = (columns.place - cell).clamp(0, 1)
    value = mix_lines(knots.reshape(-1, height), left, fraction)  # (C, Y)
    # Neighbours on two sides of the threshold, or one within its tolerance, have no larger product.
    limit = 2 * tolerance.amax() * torch.maximum(knots.amax(), -knots.amin())
    at = _places(value[:, 1:] * value[:, :-1] <= limit)  # between knot and knot + 1
    column = at // (height - 1)
    at = at + column
    value = value.flatten()
    above, below = value.index_select(0, at), value.index_select(0, at + 1)
    owner = columns.owner.index_select(0, column)
    margin = tolerance.index_select(0, owner)
    # Others have it too, where both are small.
    crossing = (torch.minimum(above, below) <= margin) & (torch.maximum(above, below) >= -margin)
    knot = at - column * height

    start = _first_rows(rows, n, height).flatten()
    at = owner * height + knot
    low, high = start.index_select(0, at), start.index_select(0, at + 1)
    row, certain = _cross(above, below, margin, knot, low, high, owner, rows)

    x, first = columns.pixel.index_select(0, column), rows.first.index_select(0, owner)
    sure, unsure = _places(certain), _places(crossing & ~certain)
    toggles = torch.stack([part.index_select(0, sure) for part in (owner, x, first + row)])
    spans = (owner, x, first + low, high - low, above >= 0, below >= 0)
    return toggles, torch.stack([part.index_select(0, unsure).long() for part in spans])


def mix_lines(lines: Tensor, left: Tensor, fraction: Tensor) -> Tensor:
    """Interpolate between line ``left`` and the next: Tensor[L, Y], LongTensor[C] and Tensor[C] ->
    (C, Y)."""
    # A bag of two lines is their weighted sum; no line is copied for it.
    return F.embedding_bag(
        torch.stack([left, left + 1], dim=1),
        lines,
        per_sample_weights=torch.stack([1 - fraction, fraction], dim=1),
        mode='sum',
    )


def _places(flags: Tensor) -> Tensor:
    """Flat positions of what is true: LongTensor. On the CPU NumPy finds them five times faster."""
    if flags.device.type == 'cpu':
        return torch.from_numpy(np.flatnonzero(flags.numpy()))
    return flags.flatten().nonzero()[:, 0]


def _first_rows(rows: Axis, n: int, height: int) -> Tensor:
    """First pixel row at or after every knot, from the mask's first row: LongTensor[N, Y]."""
    segment = (rows.place.floor().clamp(-1, height - 1) + 1).long()
    counts = tally(rows.owner * (height + 1) + segment, n * (height + 1))
    return counts.view(n, height + 1).cumsum(1)[:, :-1]


def _cross(
    above: Tensor,
    below: Tensor,
    margin: Tensor,
    knot: Tensor,
    low: Tensor,
    high: Tensor,
    owner: Tensor,
    rows: Axis,
) -> tuple[Tensor, Tensor]:
    """Find the first pixel row past the crossing between two knots, and whether it is certain."""
    opposite = (above.abs() > margin) & (below.abs() > margin) & ((above > 0) != (below > 0))
    cut = knot + above / torch.where(opposite, above - below, 1)
    scale, shift = rows.scale.index_select(0, owner), rows.shift.index_select(0, owner)
    row = (cut * scale + shift).ceil().long() - rows.first.index_select(0, owner)
    row = torch.minimum(torch.maximum(row, low), high)
    # The line is monotonic, so its two pixels next to the crossing speak for all others.
    at = rows.base.index_select(0, owner) + row
    slope = below - above
    side = above.sign()
    last = len(rows.place) - 1
    place = rows.place.index_select(0, torch.cat([at - 1, at]).clamp_(0, last)).view(2, -1)
    prior, later = side * (above + (place - knot) * slope)
    certain = opposite & ((row <= low) | (prior > margin)) & ((row >= high) | (later < -margin))
    return row, certain


def evaluate(spans: Tensor, inside: Inside) -> list[Tensor]:
    """Evaluate every pixel of vertical spans, some at a time.

    Args:
        spans: LongTensor[6, P]: mask, column, first row, number of rows (may be 0), and the states
            before and after the span that the changes outside it count on.
        inside: Decides the pixels, given in the order of the spans.

    Returns:
        LongTensors[3, T], (mask, column, row) of the changes.
    """
    found: list[Tensor] = []
    if spans.shape[1] == 0:
        return found
    for part in spans.split(chunk_sizes(spans[3] + 1, POINTS, spans.device), dim=1):
        span, step = ragged_arange(part[3] + 1)
        owner, x, y, length, first, last = part[:, span]
        y = y + step
        pixel = (step < length).nonzero()[:, 0]
        now = last.bool()
        now[pixel] = inside(owner[pixel], x[pixel], y[pixel])
        before = torch.where(step == 0, first.bool(), now.roll(1))
        found.append(torch.stack([owner, x, y])[:, now != before])
    return found
