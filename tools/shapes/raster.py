"""Rasterise polygons and thick strokes with integers only.

Coordinates are int64 in 1/16 pixel, x to the right and y down; pixel (0, 0) covers 0 .. 15 and is
inside a shape when its centre (8, 8) is. No floating point takes part, so a mask is the same to the
last pixel everywhere.
"""

import math
from dataclasses import dataclass

import numpy as np

UNIT = 16
"""Coordinates per pixel."""
TURN = 1024
"""Angle units per full turn."""
_ONE = 1 << 14

# Rounding to 14 bits is far coarser than any difference between maths libraries.
_SINE = np.array([round(math.sin(2 * math.pi * k / TURN) * _ONE) for k in range(TURN)], np.int64)

# Squares of cross products must fit 63 bits: coordinates relative to the image stay below 2^15.
LARGEST_IMAGE = 2048


@dataclass(frozen=True)
class Part:
    """One piece of an outline, added to it or cut out of it.

    Args:
        points: int64[K, 2] (x, y). A polygon's corners, or a stroke's joints (one: a disc).
        half_width: 0 for a polygon, else half the stroke's width.
        cut: Remove these pixels from what earlier parts drew.
    """

    points: np.ndarray
    half_width: int = 0
    cut: bool = False


def polar(angle: int, radius: int) -> tuple[int, int]:
    """Return the point (x, y) at ``angle`` (1/1024 turn) and ``radius``."""
    cosine, sine = int(_SINE[(angle + TURN // 4) % TURN]), int(_SINE[angle % TURN])
    return (radius * cosine + _ONE // 2) >> 14, (radius * sine + _ONE // 2) >> 14


def place(part: Part, angle: int, scale: int, centre: tuple[int, int]) -> Part:
    """Turn by ``angle``, stretch by ``scale`` / 256 and move to ``centre``."""
    cosine, sine = _SINE[(angle + TURN // 4) % TURN], _SINE[angle % TURN]
    x, y = (part.points * scale).T
    turned = np.stack([x * cosine - y * sine, x * sine + y * cosine], 1)
    points = ((turned + (1 << 21)) >> 22) + np.array(centre, np.int64)
    half_width = max(1, (part.half_width * scale + 128) >> 8) if part.half_width else 0
    return Part(points, half_width, part.cut)


def draw(parts: list[Part], height: int, width: int) -> np.ndarray:
    """Rasterise parts in order.

    Returns:
        bool[height, width], true where the pixel's centre is inside.
    """
    if max(height, width) > LARGEST_IMAGE:
        raise ValueError(f'images up to {LARGEST_IMAGE} pixels a side, got {height} x {width}')
    mask = np.zeros((height, width), bool)
    for part in parts:
        low = (part.points.min(0) - part.half_width) // UNIT
        high = (part.points.max(0) + part.half_width) // UNIT + 1
        x1, y1 = np.maximum(low, 0)
        x2, y2 = np.minimum(high, (width, height))
        if x1 >= x2 or y1 >= y2:
            continue
        xs = np.arange(x1, x2) * UNIT + UNIT // 2
        ys = (np.arange(y1, y2) * UNIT + UNIT // 2)[:, None]
        inside = _stroke(part, xs, ys) if part.half_width else _polygon(part, xs, ys)
        if part.cut:
            mask[y1:y2, x1:x2] &= ~inside
        else:
            mask[y1:y2, x1:x2] |= inside
    return mask


def _polygon(part: Part, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
    """Mark centres inside by the even-odd rule."""
    inside = np.zeros((len(ys), len(xs)), bool)
    for (xa, ya), (xb, yb) in zip(part.points, np.roll(part.points, -1, 0), strict=True):
        crosses = (ya <= ys) != (yb <= ys)
        left = (xs - xa) * (yb - ya) - (xb - xa) * (ys - ya)
        inside ^= crosses & ((left < 0) if yb > ya else (left > 0))
    return inside


def _stroke(part: Part, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
    """Mark centres within half a width of the joined segments (round caps and joints)."""
    inside = np.zeros((len(ys), len(xs)), bool)
    reach = part.half_width**2
    starts = part.points[:-1] if len(part.points) > 1 else part.points
    ends = part.points[1:] if len(part.points) > 1 else part.points
    for (xa, ya), (xb, yb) in zip(starts, ends, strict=True):
        dx, dy = xb - xa, yb - ya
        length = dx * dx + dy * dy
        near_a = (xs - xa) ** 2 + (ys - ya) ** 2 <= reach
        near_b = (xs - xb) ** 2 + (ys - yb) ** 2 <= reach
        along = (xs - xa) * dx + (ys - ya) * dy
        across = (xs - xa) * dy - (ys - ya) * dx
        beside = (along >= 0) & (along <= length) & (across**2 <= reach * length) & (length > 0)
        inside |= near_a | near_b | beside
    return inside
