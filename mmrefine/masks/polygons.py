"""Masks as polygons with holes.

Coordinates are pixels of the image, the corner of its first pixel being (0, 0), as in COCO.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from contourpy import FillType, contour_generator
from shapely import Polygon, make_valid
from shapely.geometry.base import BaseGeometry

from .crops import crop_masks


def mask_polygons(rle: Mapping, tolerance: float = 0.0) -> list[Polygon]:
    """Trace a mask: valid polygons with holes, one for each part of it; none for an empty mask.

    The outline lies halfway between the centres of pixels inside and outside, so it follows the
    pixels' edges and cuts their corners. ``tolerance`` is the greatest distance of a left-out
    vertex from the outline, in pixels.
    """
    counts = rle['counts'].encode('ascii') if isinstance(rle['counts'], str) else rle['counts']
    (crop,) = crop_masks([counts], rle['size'][0])
    if not crop.pixels.size:
        return []
    corner = (crop.x, crop.y)
    polygons = []
    for shell, *holes in outlines(crop.pixels.astype(np.float32), 0.5):
        polygon = Polygon(shell + corner, [hole + corner for hole in holes])
        simple = polygon.simplify(tolerance)  # of 0 leaves out vertices on straight lines
        polygons += _parts(simple if simple.is_valid else make_valid(simple))
    return polygons


def outlines(values: np.ndarray, threshold: float) -> Iterator[list[np.ndarray]]:
    """Trace where a float array[h, w] of values at pixel centres, 0 beyond, crosses a threshold
    above 0.

    Yields for each part the outer ring and its holes, float64 arrays[n, 2] of x, y.
    """
    generator = contour_generator(z=np.pad(values, 1), fill_type=FillType.OuterOffset)
    filled: Any = generator.filled(threshold, np.inf)  # points and offsets of each part
    for part, bounds in zip(*filled):
        rings = [part[a:b] - 0.5 for a, b in zip(bounds[:-1], bounds[1:])]
        yield [ring for ring in rings if len(ring) >= 4]


def coco_segmentation(polygons: Sequence[Polygon]) -> list[list[float]]:
    """Write polygons as COCO does: flat lists, one a part.

    COCO knows no holes; a hole is tied to its outer ring by a line there and back, which encloses
    nothing.
    """
    return [np.asarray(_keyhole(polygon)).round(2).ravel().tolist() for polygon in polygons]


def _keyhole(polygon: Polygon) -> np.ndarray:
    """One ring array[n, 2] through the outline and all holes."""
    ring = np.asarray(polygon.exterior.coords)[:-1]
    for hole in polygon.interiors:
        inner = np.asarray(hole.coords)[:-1]
        # from the vertex of the ring that is nearest to a vertex of the hole
        distances = ((ring[:, None] - inner[None]) ** 2).sum(-1)
        at, to = np.unravel_index(distances.argmin(), distances.shape)
        turn = np.roll(inner, -to, axis=0)
        ring = np.concatenate([ring[: at + 1], turn, turn[:1], ring[at:]])
    return ring


def _parts(shape: BaseGeometry) -> list[Polygon]:
    """Polygons of a geometry; lines and points, which enclose nothing, are left out."""
    if isinstance(shape, Polygon):
        return [] if shape.is_empty else [shape]
    return [part for one in getattr(shape, 'geoms', ()) for part in _parts(one)]
