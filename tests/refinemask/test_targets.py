"""Targets are bit-equal to MMDetection's, for every form of annotation."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.structures.mask import BitmapMasks, PolygonMasks

from mmrefine.refinemask.targets import foreground_union, multi_size_targets, semantic_targets

SIZES = (14, 28)


def random_polygons(rng: np.random.Generator, count: int) -> PolygonMasks:
    """Instances of one to three star-shaped parts."""
    masks = []
    for _ in range(count):
        parts = []
        for _ in range(rng.integers(1, 4)):
            angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 12)))
            reach = rng.uniform(2, 30, (len(angles), 1))
            points = rng.uniform(0, 90, 2) + np.stack([np.cos(angles), np.sin(angles)], 1) * reach
            parts.append(points.ravel())
        masks.append(parts)
    return PolygonMasks(masks, 80, 100)


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """Boxes of any size down to zero, some partly outside the canvas."""
    corner = rng.uniform(-10, 90, (count, 2))
    side = rng.choice([0.0, 0.4, 8.0, 50.0], (count, 2)) * rng.uniform(0.5, 1, (count, 2))
    return np.concatenate([corner, corner + side], 1).astype(np.float32)


def mmdet_targets(masks, boxes: np.ndarray, inds: np.ndarray, size: int) -> np.ndarray:
    """The stock path: clip, crop, resize."""
    limit = np.float32([masks.width, masks.height] * 2)
    clipped = np.clip(boxes, np.float32(0), limit)
    return masks.crop_and_resize(clipped, (size, size), inds, device='cpu').to_ndarray()


@pytest.mark.parametrize('bitmap', [False, True])
@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
@settings(max_examples=25)
def test_equal_to_mmdet(bitmap: bool, seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    masks = random_polygons(rng, 3)
    masks = masks.to_bitmap() if bitmap else masks
    boxes, inds = random_boxes(rng, count), rng.integers(3, size=count)
    ours = multi_size_targets(torch.from_numpy(boxes), torch.from_numpy(inds), masks, SIZES)
    for size, target in zip(SIZES, ours):
        expected = mmdet_targets(masks, boxes, inds, size)
        assert target.dtype == torch.bool
        assert (target[:, 0].numpy() == expected).all()


@pytest.mark.parametrize('masks', [PolygonMasks([], 8, 8), BitmapMasks(np.zeros((0, 8, 8)), 8, 8)])
def test_no_rois(masks) -> None:
    targets = multi_size_targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), masks, SIZES)
    assert [tuple(t.shape) for t in targets] == [(0, 1, s, s) for s in SIZES]


def test_instance_without_polygons_has_an_empty_target() -> None:
    square = [np.array([10.0, 10.0, 50.0, 10.0, 50.0, 50.0, 10.0, 50.0])]
    masks = PolygonMasks([square, []], 80, 100)
    boxes = torch.tensor([[10.0, 10.0, 50.0, 50.0]]).repeat(2, 1)
    (target,) = multi_size_targets(boxes, torch.tensor([0, 1]), masks, (14,))
    assert not target[1].any()
    assert target[0].float().mean() > 0.8


def test_union_of_polygons_equals_union_of_bitmaps() -> None:
    masks = random_polygons(np.random.default_rng(0), 4)
    assert (foreground_union(masks) == foreground_union(masks.to_bitmap())).all()


def test_semantic_target_pads_smaller_canvases_and_accepts_empty_images() -> None:
    square = PolygonMasks([[np.array([0.0, 0.0, 16.0, 0.0, 16.0, 8.0, 0.0, 8.0])]], 16, 24)
    batch = [square, BitmapMasks(np.zeros((0, 32, 16), np.uint8), 32, 16)]
    target = semantic_targets(batch, (8, 6), torch.device('cpu'))
    expected = torch.zeros(2, 1, 8, 6, dtype=torch.bool)
    expected[0, 0, :2, :4] = True
    assert (target == expected).all()


def test_semantic_target_of_unpadded_masks_is_not_stretched() -> None:
    square = PolygonMasks([[np.array([0.0, 0.0, 16.0, 0.0, 16.0, 8.0, 0.0, 8.0])]], 9, 17)
    target = semantic_targets([square], (8, 6), torch.device('cpu'), stride=4)
    expected = torch.zeros(1, 1, 8, 6, dtype=torch.bool)
    expected[0, 0, :2, :4] = True
    assert (target == expected).all()
