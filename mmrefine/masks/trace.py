"""Find where soft masks cross their threshold, pixel column by pixel column, on the device.

Along a pixel column a bilinearly resized mask is a straight line between two rows of its grid, so
it crosses the threshold at most once there. Work is therefore columns x grid rows, not columns x
pixel rows. Rounding decides the pixels whose value lies within ``tolerance`` of the threshold;
those come back as spans, for the caller to evaluate with the very operator it must agree with.

Shapes:   N masks, X x Y grid columns and rows, C pixel columns and R pixel rows of all masks,
          T threshold crossings, P spans.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

# Grid values per chunk, on the CPU about what its second-level cache holds.
CHUNK = {'cpu': 2**19, 'cuda': 2**24}
# Pixels per chunk that are evaluated one by one.
POINTS = {'cpu': 2**18, 'cuda': 2**22}


@dataclass
class Axis:
    """Pixels of one axis for all masks, one mask after the other.

    Attributes:
        owner: LongTensor[R], mask of each pixel.
        pixel: LongTensor[R], image coordinate of each pixel.
        place: Tensor[R], where the pixel's centre lies on the mask's grid, in grid steps. Grows
            with the pixel.
        first: LongTensor[N], image coordinate of each mask's first pixel.
        base: LongTensor[N], index of that pixel in the arrays above.
        scale: Tensor[N], pixels per grid step.
        shift: Tensor[N], image coordinate at grid place 0; pixel coordinate of a pixel's centre.
    """

    owner: Tensor
    pixel: Tensor
    place: Tensor
    first: Tensor
    base: Tensor
    scale: Tensor
    shift: Tensor


@dataclass
class Toggles:
    """Pixels at which a mask changes its value, looking down a column; any order.

    Attributes:
        owner: LongTensor[T], mask.
        x: LongTensor[T], image column.
        y: LongTensor[T], image row; one past the last row where a run ends with its column.
    """

    owner: Tensor
    x: Tensor
    y: Tensor

    @staticmethod
    def cat(parts: list['Toggles']) -> 'Toggles':
        """Join the boundaries of several chunks."""
        return Toggles(*(torch.cat([getattr(p, f) for p in parts]) for f in ('owner', 'x', 'y')))


@dataclass
class Spans:
    """Vertical pixel spans whose values must be computed exactly.

    Attributes:
        owner, x: LongTensor[P], mask and image column.
        y: LongTensor[P], first image row.
        length: LongTensor[P], number of rows; may be 0.
        before, after: BoolTensor[P], the state that the toggles outside the span count on.
    """

    owner: Tensor
    x: Tensor
    y: Tensor
    length: Tensor
    before: Tensor
    after: Tensor

    def chunks(self, points: int) -> Iterator['Spans']:
        """Split into parts of about ``points`` pixels."""
        part = (self.length + 1).cumsum(0) // points
        sizes = part.unique_consecutive(return_counts=True)[1].tolist()
        columns = [getattr(self, f).split(sizes) for f in self.__dataclass_fields__]
        return (Spans(*fields) for fields in zip(*columns))


def rounding_error(size: int, largest: Tensor) -> Tensor:
    """Bound the difference between our value of a pixel and that of the operator to agree with.

    Both compute coordinates of the size of the grid with a few roundings each, which the slope of
    the mask turns into value errors on two axes; about 30 more roundings happen to the values.

    Args:
        size: Longer side of the grid.
        largest: Tensor[N], largest absolute value of each mask.
    """
    return (24 * size + 32) * 2.0**-24 * largest


def ragged_arange(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Count up inside groups: LongTensor[N] of sizes -> owner and index, each LongTensor[sum]."""
    owner = torch.repeat_interleave(counts)
    start = counts.cumsum(0) - counts
    return owner, torch.arange(len(owner), device=counts.device) - start.index_select(0, owner)


def trace_columns(
    knots: Tensor, tolerance: Tensor, columns: Axis, rows: Axis
) -> tuple[Toggles, Spans]:
    """Locate the threshold crossings of every pixel column.

    Args:
        knots: Tensor[N, X, Y], grid values minus the threshold, columns first. The first and last
            grid row must be negative: columns start and end outside the mask.
        tolerance: Tensor[N], largest rounding error of a value, in the unit of the knots.
        columns: The pixel columns.
        rows: The pixel rows. Pixels before the first or after the last knot are outside.

    Returns:
        The certain boundaries, and the spans that rounding decides.
    """
    n, width, height = knots.shape
    cell = columns.place.floor().clamp(0, width - 2)
    left = columns.owner * width + cell.long()
    fraction = (columns.place - cell).clamp(0, 1)[:, None]
    lines = knots.reshape(-1, height)
    # index_select copies whole lines, which plain indexing does several times slower.
    value = torch.lerp(lines.index_select(0, left), lines.index_select(0, left + 1), fraction)
    margin = tolerance.index_select(0, columns.owner)
    sure, possible = value > margin[:, None], value >= -margin[:, None]
    changing = (sure[:, 1:] ^ possible[:, :-1]) | (possible[:, 1:] ^ sure[:, :-1])
    column, knot = changing.nonzero(as_tuple=True)

    owner, margin = columns.owner.index_select(0, column), margin.index_select(0, column)
    start = _first_rows(rows, n, height).flatten()
    at = owner * height + knot
    low, high = start.index_select(0, at), start.index_select(0, at + 1)
    at = column * height + knot
    value = value.flatten()
    above, below = value.index_select(0, at), value.index_select(0, at + 1)
    row, certain = _cross(above, below, margin, knot, low, high, owner, rows)

    x, first = columns.pixel.index_select(0, column), rows.first.index_select(0, owner)
    unsure = (~certain).nonzero()[:, 0]
    certain = certain.nonzero()[:, 0]
    toggles = Toggles(owner[certain], x[certain], (first + row)[certain])
    spans = Spans(
        owner[unsure],
        x[unsure],
        (first + low)[unsure],
        (high - low)[unsure],
        above[unsure] >= 0,
        below[unsure] >= 0,
    )
    return toggles, spans


def _first_rows(rows: Axis, n: int, height: int) -> Tensor:
    """First pixel row at or after every knot, from the mask's first row: LongTensor[N, Y]."""
    segment = (rows.place.floor().clamp(-1, height - 1) + 1).long()
    counts = torch.bincount(rows.owner * (height + 1) + segment, minlength=n * (height + 1))
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


def resolve(spans: Spans, inside: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Toggles:
    """Evaluate every pixel of the spans and return the boundaries found there.

    Args:
        spans: The spans, ordered by owner.
        inside: From ``owner, x, y``, LongTensor[Q] each, to BoolTensor[Q]: pixels in the mask.
    """
    span, step = ragged_arange(spans.length + 1)
    owner, x, y = spans.owner[span], spans.x[span], spans.y[span] + step
    pixel = (step < spans.length[span]).nonzero()[:, 0]
    now = spans.after[span]
    now[pixel] = inside(owner[pixel], x[pixel], y[pixel])
    before = torch.where(step == 0, spans.before[span], now.roll(1))
    at = (now != before).nonzero()[:, 0]
    return Toggles(owner[at], x[at], y[at])
