"""Polygons of masks: valid, with holes, and the same pixels when drawn again."""

import cv2
import numpy as np
import pytest
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from scipy import ndimage
from shapely.geometry import MultiPolygon, Polygon

from mmrefine.masks.polygons import coco_segmentation, mask_polygons


def encoded(mask: np.ndarray) -> dict:
    return coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))


def drawn(segmentation: list[list[float]], size: tuple[int, int]) -> np.ndarray:
    parts = coco_mask.frPyObjects(segmentation, *size)
    return coco_mask.decode(coco_mask.merge(parts)).astype(bool)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / max((a | b).sum(), 1)


def disc(radius: float, size: int = 80, hole: float = 0.0) -> np.ndarray:
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    distance = np.hypot(x, y)
    return (distance <= radius) & (distance >= hole)


@pytest.mark.parametrize('hole', [0.0, 12.0])
def test_a_disc_and_a_ring_keep_area_and_hole(hole: float) -> None:
    mask = disc(30, hole=hole)
    (polygon,) = mask_polygons(encoded(mask))
    assert len(polygon.interiors) == (hole > 0)
    assert polygon.area == pytest.approx(mask.sum(), rel=0.01)
    assert iou(drawn(coco_segmentation([polygon]), mask.shape), mask) > 0.98


def test_an_empty_mask_has_no_polygon_and_a_pixel_has_one() -> None:
    mask = np.zeros((5, 7), bool)
    assert mask_polygons(encoded(mask)) == []
    mask[4, 6] = True
    (polygon,) = mask_polygons(encoded(mask))
    assert polygon.bounds == (6.0, 4.0, 7.0, 5.0)


def test_masks_that_touch_the_border_stay_inside() -> None:
    (polygon,) = mask_polygons(encoded(np.ones((6, 9), bool)))
    assert polygon.bounds == (0.0, 0.0, 9.0, 6.0)


def test_simplified_outlines_stay_close_with_fewer_vertices() -> None:
    mask = disc(35)
    (fine,), (coarse,) = mask_polygons(encoded(mask)), mask_polygons(encoded(mask), 1.0)
    assert len(coarse.exterior.coords) < len(fine.exterior.coords) / 2
    assert fine.hausdorff_distance(coarse) <= 1.0 + 1e-9


@given(st.integers(0, 2**32 - 1), st.integers(1, 24), st.integers(1, 24), st.floats(0.1, 0.9))
def test_any_mask_gives_valid_polygons_of_about_its_area(
    seed: int, height: int, width: int, share: float
) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < share
    polygons = mask_polygons(encoded(mask))
    shape = MultiPolygon(polygons)
    assert shape.is_valid
    # each corner of the pixels' edges is cut by an eighth of a pixel at most
    assert abs(shape.area - mask.sum()) <= mask.sum() / 2 + 1e-6
    if polygons:
        left, top, right, bottom = shape.bounds
        assert left >= 0 and top >= 0 and right <= width and bottom <= height


def pixels_inside(polygons: list[Polygon], size: tuple[int, int]) -> np.ndarray:
    """Pixels whose centre is in a polygon."""
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    return shapely.contains_xy(MultiPolygon(polygons), x.ravel(), y.ravel()).reshape(size)


@given(st.integers(0, 2**32 - 1), st.integers(1, 24), st.integers(1, 24), st.floats(0.1, 0.9))
def test_unsimplified_polygons_hold_the_pixels_of_the_mask(
    seed: int, height: int, width: int, share: float
) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < share
    polygons = mask_polygons(encoded(mask))
    np.testing.assert_array_equal(pixels_inside(polygons, mask.shape), mask)
    _, parts = ndimage.label(~np.pad(mask, 1), np.ones((3, 3)))
    assert sum(len(polygon.interiors) for polygon in polygons) >= parts - 1


@settings(deadline=None, max_examples=40, derandomize=True)
@example(135, 81.125, True)
@given(st.integers(0, 2**32 - 1), st.floats(60, 200), st.booleans())
def test_half_a_pixel_leaves_out_two_thirds_of_the_vertices(
    seed: int, radius: float, hole: bool
) -> None:
    """Of objects with a wavy outline, against all points of OpenCV's outlines."""
    rng = np.random.default_rng(seed)
    side = int(2.6 * radius)
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    angle, waves = np.arctan2(y, x), rng.integers(2, 7)
    edge = radius * (1 + 0.2 * np.sin(waves * angle + rng.random() * 6))
    distance = np.hypot(x, y)
    mask = (distance < edge) & ~(hole & (distance < edge / 3))
    polygons = mask_polygons(encoded(mask), 0.5)
    (polygon,) = polygons
    assert polygon.is_valid and len(polygon.interiors) == hole
    # what is lost grows with the outline, so its share falls with the radius: 0.995 from 100 pixels
    assert iou(pixels_inside(polygons, mask.shape), mask) >= 1 - 0.5 / radius
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    assert shapely.get_num_coordinates(polygon) <= sum(map(len, outlines)) / 3


@given(st.integers(0, 2**32 - 1), st.floats(0, 3))
def test_simplified_polygons_are_valid(seed: int, tolerance: float) -> None:
    rng = np.random.default_rng(seed)
    mask = ndimage.gaussian_filter(rng.random((40, 50)), 2) > 0.5
    polygons = mask_polygons(encoded(mask), tolerance)
    assert all(polygon.is_valid and polygon.area for polygon in polygons)
    for ring in coco_segmentation(polygons):
        assert len(ring) >= 6 and len(ring) % 2 == 0
