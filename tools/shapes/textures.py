"""Colours and textures of backgrounds and objects, in integers."""

from dataclasses import dataclass

import numpy as np

from .rng import Rng

TILE = 128
"""Side in pixels of an object's texture; beyond that it is mirrored."""

# Neighbours in the list are apart in hue; key and fork differ by outline more than by colour.
CLASS_COLOURS = (
    (196, 96, 70),
    (226, 186, 60),
    (70, 130, 206),
    (206, 90, 160),
    (104, 178, 84),
    (128, 92, 188),
    (232, 232, 216),
    (90, 200, 200),
)


@dataclass(frozen=True)
class Paint:
    """What an object looks like, fixed to the object so that it moves along.

    Args:
        tile: int64[TILE, TILE, 3], signed values around 128.
    """

    tile: np.ndarray

    def at(self, ys: np.ndarray, xs: np.ndarray) -> np.ndarray:
        """Look up colours int64[N, 3] at pixel offsets from the object's centre."""
        return self.tile[_mirror(ys), _mirror(xs)]


def value_noise(rng: Rng, height: int, width: int, cells: int) -> np.ndarray:
    """Draw smooth noise: random values on a grid, linear in between.

    Args:
        cells: Grid cells along the longer side.

    Returns:
        int64[height, width], values 0 .. 255.
    """
    side = max(height, width)
    grid = rng.bytes(cells + 2, cells + 2)
    y = np.arange(height) * cells * 256 // side
    x = np.arange(width) * cells * 256 // side
    yi, yf = (y >> 8)[:, None], (y & 255)[:, None]
    xi, xf = x >> 8, x & 255
    top = grid[yi, xi] * (256 - xf) + grid[yi, xi + 1] * xf
    bottom = grid[yi + 1, xi] * (256 - xf) + grid[yi + 1, xi + 1] * xf
    return (top * (256 - yf) + bottom * yf) >> 16


def background(rng: Rng, height: int, width: int, contrast: int) -> np.ndarray:
    """Draw a two-coloured ground with clouds, grain and sometimes stripes.

    Args:
        contrast: Percent of the difference between the two colours that is kept.

    Returns:
        int64[height, width, 3].
    """
    first = np.array([rng.between(30, 150) for _ in range(3)])
    second = np.array([rng.between(30, 150) for _ in range(3)])
    mix = value_noise(rng, height, width, rng.between(3, 6))
    mix = (2 * mix + value_noise(rng, height, width, rng.between(12, 24))) // 3
    if rng.chance(40):
        mix = (3 * mix + _stripes(rng, height, width)) // 4
    mix = 128 + (mix - 128) * contrast // 100
    ground = (first * mix[..., None] + second * (255 - mix)[..., None]) // 255
    return ground + (rng.bytes(height, width) // 16 - 8)[..., None]


def class_paint(rng: Rng, label: int, spread: int) -> Paint:
    """Mix one object's paint: its class colour, off by up to ``spread``, shaded and grained."""
    colour = np.array([c + rng.between(-spread, spread) for c in CLASS_COLOURS[label]])
    shade = value_noise(rng, TILE, TILE, rng.between(4, 10)) - 128
    tile = colour + (shade * 36 // 128)[..., None]
    if rng.chance(25):
        tile = tile + ((_stripes(rng, TILE, TILE) - 128) * 30 // 128)[..., None]
    return Paint(tile + (rng.bytes(TILE, TILE) // 16 - 8)[..., None])


def soften(image: np.ndarray) -> np.ndarray:
    """Blur by one pixel (weights 1, 2, 1 each way), as a lens does, and cut to bytes.

    Args:
        image: int64[H, W, 3].

    Returns:
        uint8[H, W, 3].
    """
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode='edge')
    rows = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    both = rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]
    return np.clip((both + 8) >> 4, 0, 255).astype(np.uint8)


def _mirror(offsets: np.ndarray) -> np.ndarray:
    """Fold offsets from the centre into 0 .. TILE - 1 without a seam."""
    folded = (offsets + TILE // 2) % (2 * TILE)
    return np.minimum(folded, 2 * TILE - 1 - folded)


def _stripes(rng: Rng, height: int, width: int) -> np.ndarray:
    """Draw a slanted square wave of 0 and 255."""
    dx, dy, period = rng.between(-8, 8), rng.between(-8, 8), rng.between(24, 64)
    phase = np.arange(height)[:, None] * dy + np.arange(width) * dx
    return np.where(phase % period < period // 2, 255, 0)
