"""Where the pixels of a bilinearly resized map lie, and with which weights they mix its cells.

Shapes:   Hm x Wm cells of the map, h x w resized map, Q pixels.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# Closer to a cell centre than this, two ways to compute a coordinate can name different neighbours.
NEAR_CENTRE = 2.0**-10


class Resize:
    """Bilinear resizing of a map, known pixel by pixel.

    Args:
        map_size: ``(Hm, Wm)``.
        resized_size: ``(h, w)`` of the whole map in pixels. A fractional size keeps the exact scale
            and drops the pixel that the map covers in part, as ``interpolate`` with
            ``scale_factor`` does; it excludes ``align_corners``.
        align_corners: As in ``torch.nn.functional.interpolate``.
        device: Where to compute.
    """

    def __init__(
        self,
        map_size: tuple[int, int],
        resized_size: tuple[float, float],
        align_corners: bool,
        device: torch.device,
    ) -> None:
        self.map_size = map_size
        self.exact_size = resized_size
        # 76.999... pixels are 77 whose scale was rounded.
        self.resized_size = tuple(math.floor(side * (1 + 1e-12)) for side in resized_size)
        self.fractional = self.resized_size != tuple(resized_size)
        self.align_corners = align_corners
        self.places = [self._places(axis, device) for axis in (0, 1)]
        self.evens = [self._even_weights(axis, device) for axis in (0, 1)]

    def steps(self, axis: int) -> tuple[float, float]:
        """Pixels per map cell, and the (fractional) pixel at the centre of cell 0."""
        cells, pixels = self.map_size[axis], self.exact_size[axis]
        if self.align_corners:
            return (pixels - 1) / max(cells - 1, 1), 0.0
        step = pixels / cells
        return step, 0.5 * step - 0.5

    def _places(self, axis: int, device: torch.device) -> Tensor:
        """Map coordinate of every pixel of one axis, cell centres being integers."""
        cells, pixels = self.map_size[axis], self.resized_size[axis]
        index = torch.arange(pixels, device=device, dtype=torch.float64)
        if self.align_corners:
            place = index * ((cells - 1) / max(pixels - 1, 1))
        else:
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
        return self._interpolate(pattern.view(shape), size).select(1 - axis, 0)

    def __call__(self, cells: Tensor) -> Tensor:
        """Resize one map: Tensor[Hm, Wm] -> Tensor[h, w]."""
        return self._interpolate(cells, self.exact_size)

    def _interpolate(self, cells: Tensor, size: Sequence[float]) -> Tensor:
        """Resize Tensor[H, W] to a size in pixels, fractional or not, by the operator."""
        target: dict[str, Any] = {'size': [int(side) for side in size]}
        if self.fractional:
            scale = [side / cell * (1 + 1e-12) for side, cell in zip(size, cells.shape)]
            target = {'scale_factor': scale}
        return F.interpolate(
            cells[None, None], mode='bilinear', align_corners=self.align_corners, **target
        )[0, 0]

    def neighbours(self, axis: int, pixel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Find the two cells that a pixel mixes along one axis.

        Args:
            axis: 0 for rows, 1 for columns.
            pixel: LongTensor[Q].

        Returns:
            LongTensor[Q] lower cell, Tensor[Q] weight of the next cell, BoolTensor[Q] whether the
            operator is sure to use this pair.
        """
        lower = self.places[axis][pixel].floor().long().clamp(max=self.map_size[axis] - 1)
        even = self.evens[axis][pixel]
        upper_weight = torch.where(lower % 2 == 0, 1 - even, even)
        # Both cells are the last one at the border.
        upper_weight = upper_weight.masked_fill(lower == self.map_size[axis] - 1, 0)
        nearest = torch.minimum(even, 1 - even)
        return lower, upper_weight, (nearest == 0) | (nearest > NEAR_CENTRE)
