"""Cut a picture into tiles that overlap.

Shapes:   T tiles, h x w pixels of the picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Tiling:
    """How pictures are cut.

    Attributes:
        size: Height and width of a tile in pixels; smaller pictures are not cut.
        overlap: Least number of pixels that neighbours share. Objects up to this size, less a
            margin on either side, are whole in at least one tile.
    """

    size: tuple[int, int] = (1024, 1024)
    overlap: int = 256

    def __post_init__(self) -> None:
        if min(self.size) < 1 or self.overlap < 0:
            raise ValueError(
                f'tiles have positive sides and an overlap of 0 or more, got {self.size} and '
                f'{self.overlap}'
            )
        if self.overlap >= min(self.size):
            raise ValueError(
                f'tiles of {self.size[0]} x {self.size[1]} pixels overlap by {self.overlap}: give '
                'larger tiles or a smaller overlap'
            )

    @property
    def margin(self) -> int:
        """Pixels between a seam and the inside of a tile."""
        return min(max(2, min(self.size) // 64), self.overlap // 4)

    def windows(self, image_size: tuple[int, int]) -> np.ndarray:
        """Spread tiles evenly: int64 array[T, 4], x1, y1, x2, y2, all of one size."""
        h, w = image_size
        tops, lefts = (self._starts(side, axis) for axis, side in enumerate(image_size))
        corners = np.array([(x, y) for y in tops for x in lefts])
        return np.hstack([corners, corners + [min(w, self.size[1]), min(h, self.size[0])]])

    def _starts(self, length: int, axis: int) -> np.ndarray:
        tile = self.size[axis]
        count = max(1, -(-(length - self.overlap) // (tile - self.overlap)))
        return np.linspace(0, max(0, length - tile), count).round().astype(np.int64)

    def insides(self, windows: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
        """Take the margin from the sides that are seams."""
        h, w = image_size
        inner = windows + np.array([1, 1, -1, -1]) * self.margin
        return np.where(windows == [0, 0, w, h], windows, inner)

    def reduce(self, pixels: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
        """Shrink a picture to the size of a tile; also its pixels over those of the small one,
        (x, y)."""
        h, w = pixels.shape[:2]
        factor = min(1.0, self.size[0] / h, self.size[1] / w)
        high, wide = max(1, round(h * factor)), max(1, round(w * factor))
        small = cv2.resize(pixels, (wide, high), interpolation=cv2.INTER_AREA)
        return small, (w / wide, h / high)


def read_tiling(tile: int | Sequence[int] | None, overlap: int | None) -> Tiling | None:
    """Make a ``Tiling`` of what a user gives.

    Args:
        tile: Height and width, or one number for both; None: pictures are not cut.
        overlap: By default a quarter of the shorter side.

    Raises:
        ValueError: An overlap without tiles, or numbers that make none.
    """
    if tile is None:
        if overlap is not None:
            raise ValueError(f'an overlap of {overlap} pixels needs tiles: give their size as well')
        return None
    sides = [tile] if isinstance(tile, int) else list(tile)
    if len(sides) not in (1, 2):
        raise ValueError(f'a tile has a height and a width, got {tile}')
    return Tiling((sides[0], sides[-1]), min(sides) // 4 if overlap is None else overlap)
