"""The eight kinds of shapes, each hard in its own way.

Every maker returns parts around the origin, in 1/16 pixel, that fill about the given radius.
"""

from collections.abc import Callable

import numpy as np

from .raster import TURN, UNIT, Part, polar
from .rng import Rng

Maker = Callable[[Rng, int], list[Part]]


def pebble(rng: Rng, radius: int) -> list[Part]:
    """Build a plain, nearly convex stone: the easy class, and the crowded one."""
    return [_blob(rng, radius, sides=rng.between(7, 11), depth=18)]


def star(rng: Rng, radius: int) -> list[Part]:
    """Build a star: deep notches between pointed tips."""
    spikes = rng.between(5, 7)
    inner = radius * rng.between(38, 50) // 100
    corners = [
        polar(k * TURN // (2 * spikes), radius if k % 2 == 0 else inner) for k in range(2 * spikes)
    ]
    return [_polygon(corners)]


def ring(rng: Rng, radius: int) -> list[Part]:
    """Build an oval band with a hole."""
    flat = rng.between(70, 100)
    outer = [(x, y * flat // 100) for x, y in _circle(radius)]
    hole = radius * rng.between(48, 64) // 100
    inner = [(x, y * flat // 100) for x, y in _circle(hole)]
    return [_polygon(outer), _polygon(inner, cut=True)]


def worm(rng: Rng, radius: int) -> list[Part]:
    """Build a thin line with bends to both sides."""
    bends, swing = rng.between(2, 3), radius * rng.between(28, 48) // 100
    joints = []
    for k in range(17):
        x = -radius + 2 * radius * k // 16
        joints.append((x, polar(k * bends * TURN // 32, swing)[1]))
    return [_stroke(joints, max(UNIT * 3 // 2, radius * rng.between(13, 19) // 100))]


def moon(rng: Rng, radius: int) -> list[Part]:
    """Build a crescent: one concave side and two thin tips."""
    shift = radius * rng.between(44, 60) // 100
    bite = [(x + shift, y) for x, y in _circle(radius * 88 // 100)]
    return [_polygon(_circle(radius)), _polygon(bite, cut=True)]


def cross(rng: Rng, radius: int) -> list[Part]:
    """Build four thin arms that leave most of the box empty."""
    half = max(UNIT * 3 // 2, radius * rng.between(15, 22) // 100)
    short = radius * rng.between(70, 100) // 100
    return [_bar(-radius, -half, radius, half), _bar(-half, -short, half, short)]


def key(rng: Rng, radius: int) -> list[Part]:
    """Build a key: a head with a hole, a thin shaft and small teeth."""
    head = radius * rng.between(38, 46) // 100
    half = max(UNIT * 5 // 4, radius * 12 // 100)
    tooth = radius * rng.between(32, 42) // 100
    return [
        _bar(-radius + head, -half, radius, half),
        _bar(radius - 2 * half, 0, radius, tooth),
        _bar(radius - 6 * half, 0, radius - 4 * half, tooth),
        _stroke([(head - radius, 0)], head),
        Part(np.array([(head - radius, 0)], np.int64), max(UNIT, head * 52 // 100), cut=True),
    ]


def fork(rng: Rng, radius: int) -> list[Part]:
    """Build a fork: prongs with narrow gaps on a thin handle."""
    prongs, half = 3, max(UNIT * 5 // 4, radius * 12 // 100)
    gap = half * rng.between(32, 40) // 10
    width = gap * (prongs - 1) // 2
    start = radius * 5 // 100
    parts = [
        _bar(-radius, -half, start, half),
        _bar(start, -width - half, start + 2 * half, width + half),
    ]
    for k in range(prongs):
        y = k * gap - width
        parts.append(_bar(start, y - half, radius, y + half))
    return parts


MAKERS: dict[str, Maker] = {
    maker.__name__: maker for maker in (pebble, star, ring, worm, moon, cross, key, fork)
}
"""Class name -> maker, in label order."""


def _circle(radius: int) -> list[tuple[int, int]]:
    sides = 24 if radius < 16 * UNIT else 48
    return [polar(k * TURN // sides, radius) for k in range(sides)]


def _blob(rng: Rng, radius: int, sides: int, depth: int) -> Part:
    corners = []
    for k in range(sides):
        angle = k * TURN // sides + rng.between(-TURN // 60, TURN // 60)
        corners.append(polar(angle, radius * rng.between(100 - depth, 100) // 100))
    return _polygon(corners)


def _polygon(corners: list[tuple[int, int]], cut: bool = False) -> Part:
    return Part(np.array(corners, np.int64), cut=cut)


def _stroke(joints: list[tuple[int, int]], half_width: int) -> Part:
    return Part(np.array(joints, np.int64), half_width)


def _bar(x1: int, y1: int, x2: int, y2: int) -> Part:
    return _polygon([(x1, y1), (x2, y1), (x2, y2), (x1, y2)])
