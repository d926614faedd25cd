"""The boundary band and Boundary IoU agree with their definition on whole frames."""

import numpy as np
import pytest
from evaluation.scenes import blob, reference_band
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from mmrefine.evaluation.boundary import (
    band_width,
    boundary_iou,
    crop_iou,
    inner_band,
)
from mmrefine.masks.crops import crop_masks


def encode(mask: np.ndarray) -> bytes:
    return coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))['counts']


def on_frame(crop: object, size: tuple[int, int]) -> np.ndarray:
    frame = np.zeros(size, np.uint8)
    pixels = crop.pixels
    frame[crop.y : crop.y + pixels.shape[0], crop.x : crop.x + pixels.shape[1]] = pixels
    return frame


def random_masks(seed: int, count: int, h: int, w: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [blob(rng, h, w) if i % 3 else (rng.random((h, w)) < 0.8) * 1 for i in range(count)]


sides = st.integers(1, 70)


@settings(max_examples=60)
@given(st.integers(0, 10_000), sides, sides, st.integers(1, 12))
def test_band_is_the_mask_minus_its_erosions(seed: int, h: int, w: int, width: int) -> None:
    masks = random_masks(seed, 4, h, w)
    for mask, crop in zip(masks, crop_masks([encode(m) for m in masks], h)):
        np.testing.assert_array_equal(on_frame(crop, (h, w)), mask)
        band = on_frame(inner_band(crop, width), (h, w))
        np.testing.assert_array_equal(band, reference_band(mask, width))


@settings(max_examples=40)
@given(st.integers(0, 10_000), sides, sides)
def test_boundary_iou_is_the_smaller_of_both(seed: int, h: int, w: int) -> None:
    masks = random_masks(seed, 6, h, w)
    detected, real = masks[:3], masks[3:]
    rles = [[{'size': [h, w], 'counts': encode(m)} for m in part] for part in (detected, real)]
    crowd = np.array([False, True, False])
    mask_iou = coco_mask.iou(*rles, crowd.astype(np.uint8))
    width = band_width((h, w))
    bands = [
        [coco_mask.encode(np.asfortranarray(reference_band(m, width))) for m in part]
        for part in (detected, real)
    ]
    expected = np.minimum(mask_iou, coco_mask.iou(*bands, np.zeros(3, np.uint8)))
    expected[:, crowd] = mask_iou[:, crowd]
    strings = [[rle['counts'] for rle in part] for part in rles]
    found = boundary_iou(mask_iou, *strings, crowd, (h, w))
    np.testing.assert_array_equal(found, expected)
    lazy = boundary_iou(mask_iou, *strings, crowd, (h, w), threshold=0.5)
    np.testing.assert_array_equal(lazy >= 0.5, expected >= 0.5)
    np.testing.assert_array_equal(lazy[lazy >= 0.5], expected[expected >= 0.5])


@pytest.mark.parametrize(
    ('size', 'width'), [((480, 640), 16), ((1, 1), 1), ((1024, 2048), 46), ((4320, 7680), 176)]
)
def test_width_is_two_percent_of_the_diagonal(size: tuple[int, int], width: int) -> None:
    assert band_width(size) == width


def test_a_mask_of_an_8k_image_is_only_decoded_in_its_box() -> None:
    h, w = 4320, 7680
    left = 3000 * h + 2000
    counts = coco_mask.frPyObjects(
        {'size': [h, w], 'counts': [left, 5, h - 5, 5, h * w - left - h - 5]}, h, w
    )
    (crop,) = crop_masks([counts['counts']], h)
    assert (crop.x, crop.y, crop.columns.shape) == (3000, 2000, (2, 5))
    assert crop_iou(inner_band(crop, band_width((h, w))), crop) == 1


def test_one_pixel_images_and_empty_masks() -> None:
    full, empty = crop_masks([encode(np.ones((1, 1))), encode(np.zeros((1, 1)))], 1)
    assert crop_iou(inner_band(full, 1), full) == 1
    assert crop_iou(full, empty) == 0 and crop_iou(empty, empty) == 0
    assert inner_band(empty, 1).columns.size == 0
