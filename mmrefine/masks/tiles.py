"""Parts of soft maps, resized with the whole map and thresholded without ever being pasted.

Shapes:   n tiles of at most ht x wt cells, Q pixels.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .resize import Resize
from .trace import Axis, Toggles, ragged_arange, resolve, rounding_error, trace_columns

# Roundings of a weighted sum of four values, whatever the operator's order of operations.
SUM_ERROR = 16 * 2.0**-24


@dataclass
class Tile:
    """Part of one map outside of which nothing reaches the threshold.

    Attributes:
        values: Tensor[ht, wt], its cells.
        x, y: Map cell of its top left corner.
    """

    values: Tensor
    x: int
    y: int


class TileBatch:
    """A chunk of tiles, padded to one size.

    Args:
        tiles: The parts, n of them.
        windows: LongTensor[n, 4], the pixels to decide, (x1, y1, x2, y2), exclusive.
        resize: The resizing of the whole map.
        threshold: Pixels above it are in the mask; with ``strict`` off also those at it.
        strict: Which comparison to use.
        outside: Value of cells outside the tiles; below the threshold.

    Raises:
        ValueError: A value is NaN or infinite.
    """

    def __init__(
        self,
        tiles: list[Tile],
        windows: Tensor,
        resize: Resize,
        threshold: float,
        strict: bool,
        outside: float,
    ) -> None:
        self.tiles, self.windows, self.resize = tiles, windows, resize
        self.threshold, self.strict, self.outside = threshold, strict, outside
        height = max(t.values.shape[0] for t in tiles)
        width = max(max(t.values.shape[1] for t in tiles), 2)
        self.cells = windows.new_full((len(tiles), height, width), outside, dtype=torch.float32)
        for cells, tile in zip(self.cells, tiles):
            cells[: tile.values.shape[0], : tile.values.shape[1]] = tile.values
        self.origin = windows.new_tensor([[t.x, t.y] for t in tiles])
        low, high = self.cells.flatten(1).aminmax(dim=1)
        self.largest = torch.maximum(high, -low).clamp(min=abs(threshold))
        if not bool(self.largest.isfinite().all()):
            raise ValueError('a mask has NaN or infinite values')
        self.margin = rounding_error(max(resize.map_size), self.largest)

    def toggles(self, points: int) -> Iterator[Toggles]:
        """Find all run boundaries; owners are places in the chunk."""
        columns, rows = self._axis(1, 0), self._axis(0, 1)
        found, spans = trace_columns(self._knots(), self.margin, columns, rows)
        yield found
        for chunk in spans.chunks(points):
            yield resolve(chunk, self._inside)

    def _knots(self) -> Tensor:
        """Cells minus threshold, columns first, with a row outside the mask at either end."""
        n, height, width = self.cells.shape
        off = -2 * (self.largest.max() + 1)
        knots = off.expand(n, width, height + 2).clone()
        torch.sub(self.cells.transpose(1, 2), self.threshold, out=knots[:, :, 1:-1])
        for lines, tile in zip(knots, self.tiles):
            lines[:, tile.values.shape[0] + 1 :] = off
        return knots

    def _axis(self, axis: int, pad: int) -> Axis:
        first, last = self.windows[:, 1 - axis], self.windows[:, 3 - axis]
        owner, index = ragged_arange(last - first)
        pixel = first[owner] + index
        start = self.origin[:, 1 - axis] - pad
        place = self.resize.places[axis][pixel] - start[owner]
        step, centre = self.resize.steps(axis)
        counts = last - first
        return Axis(
            owner,
            pixel,
            place,
            first,
            counts.cumsum(0) - counts,
            torch.full_like(start, 1, dtype=torch.float32) * step,
            start * step + centre,
        )

    def _inside(self, owner: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Tell which pixels ``interpolate`` and the threshold put in the mask."""
        left, right_weight, sure_x = self.resize.neighbours(1, x)
        top, low_weight, sure_y = self.resize.neighbours(0, y)
        right_weight, low_weight = right_weight.double(), low_weight.double()
        corners = [self._cell(owner, left + dx, top + dy) for dy in (0, 1) for dx in (0, 1)]
        upper = torch.lerp(corners[0], corners[1], right_weight)
        lower = torch.lerp(corners[2], corners[3], right_weight)
        value = torch.lerp(upper, lower, low_weight)
        largest = torch.stack(corners).abs().amax(0).clamp(min=abs(self.threshold))
        margin = torch.where(sure_x & sure_y, SUM_ERROR * largest, self.margin[owner])
        result = self._keep(value)
        unsure = ((value - self.threshold).abs() <= margin).nonzero()[:, 0]
        for i in owner[unsure].unique().tolist():
            # Rarely more than a few pixels of a few masks: ask the operator itself.
            mine = unsure[owner[unsure] == i]
            cells = self.cells.new_full(self.resize.map_size, self.outside)
            tile = self.tiles[i]
            h, w = tile.values.shape
            cells[tile.y : tile.y + h, tile.x : tile.x + w] = tile.values
            result[mine] = self._keep(self.resize(cells)[y[mine], x[mine]])
        return result

    def _cell(self, owner: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Map cells in float64; past the tile, where weights are 0, its last ones."""
        column = (x - self.origin[owner, 0]).clamp(0, self.cells.shape[2] - 1)
        row = (y - self.origin[owner, 1]).clamp(0, self.cells.shape[1] - 1)
        return self.cells[owner, row, column].double()

    def _keep(self, values: Tensor) -> Tensor:
        return values > self.threshold if self.strict else values >= self.threshold
