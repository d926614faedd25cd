"""Outlines of the shapes that annotation tools know, as polygons in pixels."""

import math
from collections.abc import Sequence

CORNERS = 64  # of a circle; its polygon's area is 0.2 % short


def rectangle(x: float, y: float, width: float, height: float) -> list[float]:
    """Corners of a rectangle from its top left corner and its sides."""
    return [x, y, x + width, y, x + width, y + height, x, y + height]


def ellipse(x: float, y: float, rx: float, ry: float, turn: float = 0.0) -> list[float]:
    """Outline of an ellipse about (x, y), its first axis turned by ``turn`` radians."""
    points = []
    for i in range(CORNERS):
        angle = 2 * math.pi * i / CORNERS
        u, v = rx * math.cos(angle), ry * math.sin(angle)
        points += [
            x + u * math.cos(turn) - v * math.sin(turn),
            y + u * math.sin(turn) + v * math.cos(turn),
        ]
    return points


def circle(center: Sequence[float], rim: Sequence[float]) -> list[float]:
    """Outline of a circle from its centre and a point on it."""
    radius = math.dist(center, rim)
    return ellipse(center[0], center[1], radius, radius)
