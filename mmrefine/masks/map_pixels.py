"""Single pixels of bilinearly resized maps, decided exactly as ``interpolate`` decides them.

A pixel's value is computed with the weights that the operator itself uses; where even its rounding
could matter, the operator is asked.

Shapes:   N tiles, Hm x Wm cells of the map, h x w output image, Q pixels.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

# Roundings of a weighted sum of four values, whatever the operator's order of operations.
SUM_ERROR = 16 * 2.0**-24
# Closer to a cell centre than this, two ways to compute a coordinate can name different neighbours.
NEAR_CENTRE = 2.0**-10


class Tile(NamedTuple):
    """Part of one map outside of which nothing reaches the threshold."""

    values: Tensor  # its cells
    x: int  # map cell of its top left corner
    y: int


class Resize:
    """Bilinear resizing of a map of ``map_size`` (Hm, Wm) to ``resized_size`` (h, w), known pixel
    by pixel.

    A fractional size keeps the exact scale and drops the pixel that the map covers in part, as
    ``interpolate`` with ``scale_factor`` does.
    """

    def __init__(
        self, map_size: tuple[int, int], resized_size: tuple[float, float], device: torch.device
    ) -> None:
        self.map_size = map_size
        self.exact_size = resized_size
        # 76.999... pixels are 77 whose scale was rounded.
        self.resized_size = tuple(math.floor(side * (1 + 1e-12)) for side in resized_size)
        self.places = [self._places(axis, device) for axis in (0, 1)]
        self.evens = [self._even_weights(axis, device) for axis in (0, 1)]

    def steps(self, axis: int) -> tuple[float, float]:
        """Pixels per map cell, and the (fractional) pixel at the centre of cell 0."""
        step = self.exact_size[axis] / self.map_size[axis]
        return step, 0.5 * step - 0.5

    def _places(self, axis: int, device: torch.device) -> Tensor:
        """Map coordinate of every pixel of one axis, cell centres being integers."""
        cells = self.map_size[axis]
        index = torch.arange(self.resized_size[axis], device=device, dtype=torch.float64)
        place = (index + 0.5) * (cells / self.exact_size[axis]) - 0.5
        return place.clamp(0, cells - 1).float()

    def _even_weights(self, axis: int, device: torch.device) -> Tensor:
        """Weight of the even one of each pixel's two cells, as the operator itself rounds it."""
        pattern = 1.0 - torch.arange(self.map_size[axis], device=device) % 2
        # Small outputs are resized by another kernel, so the probe must be small exactly then.
        other = 1 if sum(self.resized_size) <= 128 else 128
        shape: list[int] = [1, 1]
        size: list[float] = [other, other]
        shape[axis], size[axis] = len(pattern), self.exact_size[axis]
        return self.by_operator(pattern.view(shape), size).select(1 - axis, 0)

    def by_operator(self, cells: Tensor, size: Sequence[float]) -> Tensor:
        """Resize Tensor[H, W] to a size in pixels, fractional or not, with ``interpolate``."""
        target: dict[str, Any] = {'size': [int(side) for side in size]}
        if self.resized_size != tuple(self.exact_size):
            scale = [side / cell * (1 + 1e-12) for side, cell in zip(size, cells.shape)]
            target = {'scale_factor': scale}
        return F.interpolate(cells[None, None], mode='bilinear', **target)[0, 0]

    def neighbours(self, axis: int, pixel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Find the two cells that a pixel mixes along one axis.

        Returns:
            LongTensor[Q] lower cell, float64 Tensor[Q] weight of the next cell, BoolTensor[Q]
            whether the operator is sure to use this pair.
        """
        lower = self.places[axis][pixel].floor().long().clamp(max=self.map_size[axis] - 1)
        even = self.evens[axis][pixel]
        upper_weight = torch.where(lower % 2 == 0, 1 - even, even)
        # Both cells are the last one at the border.
        upper_weight = upper_weight.masked_fill(lower == self.map_size[axis] - 1, 0)
        nearest = torch.minimum(even, 1 - even)
        return lower, upper_weight.double(), (nearest == 0) | (nearest > NEAR_CENTRE)


class MapPixels:
    """Single pixels of resized maps, put inside or outside as ``interpolate`` and the threshold do.

    Args:
        tiles: N tiles.
        margin: Tensor[N], ``rounding_error`` of each.
        threshold: As in ``map_masks``.
        outside: Value of the cells beyond the tiles, below the threshold.
    """

    def __init__(
        self,
        tiles: list[Tile],
        margin: Tensor,
        resize: Resize,
        threshold: float,
        outside: float,
    ) -> None:
        self.margin, self.resize = margin, resize
        self.threshold, self.outside = threshold, outside
        # All tiles one after the other, and where each begins.
        self.values = torch.cat([tile.values.flatten() for tile in tiles])
        places = [[tile.x, tile.y, *reversed(tile.values.shape)] for tile in tiles]
        self.x, self.y, self.width, self.height = torch.tensor(places, device=margin.device).T
        sizes = self.width * self.height
        self.base = sizes.cumsum(0) - sizes

    def inside(self, owner: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Decide pixels: owners, columns and rows, LongTensor[Q] each -> BoolTensor[Q]."""
        left, right_weight, sure_x = self.resize.neighbours(1, x)
        top, low_weight, sure_y = self.resize.neighbours(0, y)
        corners = [
            self._cell(owner, left + dx, top + dy).double() for dy in (0, 1) for dx in (0, 1)
        ]
        upper = torch.lerp(corners[0], corners[1], right_weight)
        lower = torch.lerp(corners[2], corners[3], right_weight)
        value = torch.lerp(upper, lower, low_weight)
        largest = torch.stack(corners).abs().amax(0).clamp(min=abs(self.threshold))
        margin = torch.where(sure_x & sure_y, SUM_ERROR * largest, self.margin[owner])
        result = value > self.threshold
        unsure = ((value - self.threshold).abs() <= margin).nonzero()[:, 0]
        if len(unsure):
            result[unsure] = self._by_operator(*(part[unsure] for part in (owner, x, y, left, top)))
        return result

    def _by_operator(
        self, owner: Tensor, x: Tensor, y: Tensor, left: Tensor, top: Tensor
    ) -> Tensor:
        """Decide pixels by ``interpolate`` itself, which gives a pixel the same value whatever is
        in the cells that it does not mix.

        Maps therefore share one call wherever their pixels lie apart; what lies together goes in
        the order of the maps. ``left`` and ``top`` are the cells that the pixels begin to mix at.
        """
        height, width = self.resize.map_size
        # Next to a cell centre it may begin a cell earlier or later: four by four cells.
        reach = torch.arange(-1, 3, device=owner.device)
        columns = (left[:, None] + reach).clamp(0, width - 1)[:, None].expand(-1, 4, -1)
        rows = (top[:, None] + reach).clamp(0, height - 1)[:, :, None].expand(-1, -1, 4)
        cells = (rows * width + columns).flatten(1)  # (Q, 16)
        owners = owner[:, None].expand(-1, 16)
        values = self._cell(owners, columns.flatten(1), rows.flatten(1))
        result = torch.zeros_like(owner, dtype=torch.bool)
        waiting = torch.arange(len(owner), device=owner.device)
        while len(waiting):
            mine = owners[waiting]
            first = torch.full((height * width,), len(self.base), device=owner.device)
            first.scatter_reduce_(0, cells[waiting].flatten(), mine.flatten(), 'amin')
            free = (first[cells[waiting]] == mine).all(1)
            chosen, waiting = waiting[free], waiting[~free]
            shared = self.values.new_full((height * width,), self.outside)
            shared[cells[chosen]] = values[chosen]
            size = self.resize.exact_size
            whole = self.resize.by_operator(shared.view(height, width), size)
            result[chosen] = whole[y[chosen], x[chosen]] > self.threshold
        return result

    def _cell(self, owner: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Values of map cells: owners, columns and rows, LongTensors of one shape."""
        x, y = x - self.x[owner], y - self.y[owner]
        width, height = self.width[owner], self.height[owner]
        at = self.base[owner] + y.clamp(0).minimum(height - 1) * width
        value = self.values[at + x.clamp(0).minimum(width - 1)]
        within = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        return torch.where(within, value, self.outside)
