"""Integer drawing: masks are exact, random numbers are the same everywhere."""

import hashlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import CLASSES, SceneSpec, make_picture
from shapes.outlines import MAKERS
from shapes.png import encode_png
from shapes.raster import TURN, UNIT, Part, draw, place, polar
from shapes.rng import Rng


def test_rng_follow_the_guaranteed_stream_of_pcg64() -> None:
    words = np.random.PCG64([3, 1, 4]).random_raw(4)
    rng = Rng(3, 1, 4)
    expected = [
        (int(word) >> 32) * limit >> 32 for word, limit in zip(words, (2, 10, 999, 1 << 20))
    ]
    assert [rng.below(2), rng.below(10), rng.below(999), rng.below(1 << 20)] == expected


def test_weighted_draws_follow_their_weights() -> None:
    rng = Rng(0)
    counts = np.bincount([rng.weighted((1, 0, 3)) for _ in range(4000)], minlength=3)
    assert counts[1] == 0
    assert 850 < counts[0] < 1150


@pytest.mark.parametrize('call', [lambda: Rng(-1), lambda: Rng(), lambda: Rng(0).below(0)])
def test_rng_refuse_what_cannot_be_drawn(call) -> None:
    with pytest.raises(ValueError):
        call()


corner = st.tuples(st.integers(-200, 500), st.integers(-200, 500))


@settings(max_examples=60)
@given(st.lists(corner, min_size=3, max_size=8))
def test_polygons_agree_with_the_crossing_rule_in_fractions(corners) -> None:
    mask = draw([Part(np.array(corners, np.int64))], 20, 20)
    for y in range(20):
        for x in range(20):
            px, py = UNIT * x + UNIT // 2, UNIT * y + UNIT // 2
            crossings = 0
            for (xa, ya), (xb, yb) in zip(corners, corners[1:] + corners[:1]):
                if (ya <= py) != (yb <= py):
                    # xa + (py - ya) (xb - xa) / (yb - ya) > px, without division
                    side = (xa - px) * (yb - ya) + (py - ya) * (xb - xa)
                    crossings += side > 0 if yb > ya else side < 0
            assert mask[y, x] == (crossings % 2 == 1)


@settings(max_examples=60)
@given(st.lists(corner, min_size=1, max_size=4), st.integers(1, 90))
def test_strokes_hold_the_pixels_within_half_their_width(joints, half_width) -> None:
    mask = draw([Part(np.array(joints, np.int64), half_width)], 20, 20)
    ys, xs = np.mgrid[:20, :20] * UNIT + UNIT // 2
    points = np.stack([xs, ys], -1).astype(float)
    distance = np.full((20, 20), np.inf)
    for a, b in zip(np.array(joints, float), np.array(joints[1:] or joints, float)):
        length = ((b - a) ** 2).sum()
        along = np.clip(((points - a) @ (b - a)) / length, 0, 1) if length else np.zeros((20, 20))
        distance = np.minimum(
            distance, np.linalg.norm(points - a - along[..., None] * (b - a), axis=-1)
        )
    sure = np.abs(distance - half_width) > 1e-6
    np.testing.assert_array_equal(mask[sure], (distance <= half_width)[sure])


def test_cut_parts_make_holes() -> None:
    disc = np.array([(160, 160)], np.int64)
    mask = draw([Part(disc, 120), Part(disc, 60, cut=True)], 20, 20)
    assert not mask[10, 10]
    assert mask[10, 4]
    assert (
        mask.sum() == draw([Part(disc, 120)], 20, 20).sum() - draw([Part(disc, 60)], 20, 20).sum()
    )


def test_parts_outside_the_picture_draw_nothing() -> None:
    far = np.array([(9000, 9000), (9100, 9000), (9000, 9100)], np.int64)
    assert not draw([Part(far), Part(far[:1], 50)], 20, 30).any()


def test_placing_turns_scales_and_moves() -> None:
    bar = Part(np.array([(0, 0), (160, 0)], np.int64), 32)
    placed = place(bar, TURN // 4, 512, (100, 50))
    np.testing.assert_array_equal(placed.points, [(100, 50), (100, 370)])
    assert placed.half_width == 64


def test_angles_have_a_safe_distance_from_rounding_doubt() -> None:
    """The sine table is rounded; no entry may lie so near a half that a library could flip it."""
    exact = np.sin(2 * np.pi * np.arange(TURN) / TURN) * (1 << 14)
    assert np.abs(np.abs(exact % 1) - 0.5).min() > 1e-5
    assert polar(0, 1000) == (1000, 0)
    assert polar(TURN // 2, 1000) == (-1000, 0)


@pytest.mark.parametrize('name', CLASSES)
def test_every_class_fills_its_radius_and_no_more(name) -> None:
    for seed in range(5):
        radius = 40 * UNIT
        parts = [place(p, 0, 256, (50 * UNIT, 50 * UNIT)) for p in MAKERS[name](Rng(seed), radius)]
        ys, xs = np.nonzero(draw(parts, 100, 100))
        reach = np.hypot(xs - 49.5, ys - 49.5).max()
        assert 33 < reach < 50


def test_classes_are_difficult_in_the_ways_that_matter() -> None:
    """Holes, concave outlines and thin parts, each where promised."""

    def measure(name: str) -> tuple[int, float, float]:
        parts = [place(p, 0, 256, (50 * UNIT, 50 * UNIT)) for p in MAKERS[name](Rng(1), 40 * UNIT)]
        mask = draw(parts, 100, 100).astype(np.uint8)
        outlines, tree = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        holes = int((tree[0][:, 3] >= 0).sum())
        outer = np.concatenate([o for o, t in zip(outlines, tree[0]) if t[3] < 0])
        solidity = mask.sum() / cv2.contourArea(cv2.convexHull(outer))
        return holes, solidity, cv2.distanceTransform(mask, cv2.DIST_L2, 5).max()

    assert measure('ring')[0] == 1
    assert measure('key')[0] == 1
    assert measure('pebble')[1] > 0.9
    for name in ('star', 'worm', 'moon', 'cross', 'key', 'fork'):
        assert measure(name)[1] < 0.7
    for name in ('worm', 'fork'):
        # Thin: half the width against a radius of 40
        assert measure(name)[2] < 9


@pytest.mark.parametrize(
    'image',
    [
        np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3),
        np.arange(35, dtype=np.uint8).reshape(5, 7),
        (np.arange(35, dtype=np.uint16) * 1871).reshape(5, 7),
        np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8),
    ],
)
def test_png_files_read_back_equal(image) -> None:
    read = cv2.imdecode(np.frombuffer(encode_png(image), np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(read[..., ::-1] if image.ndim == 3 else read, image)


def test_png_refuses_what_it_cannot_hold() -> None:
    with pytest.raises(ValueError, match='float64'):
        encode_png(np.zeros((2, 2)))


def test_pictures_are_the_same_on_every_machine() -> None:
    digest = hashlib.sha256()
    for index in range(6):
        image, masks, labels = make_picture(Rng(0, 0, index), SceneSpec(height=96, width=128))
        digest.update(image.tobytes() + np.packbits(masks).tobytes() + bytes(labels))
    # Raise VERSION in make.py when this changes.
    assert digest.hexdigest() == 'f58bc4ca74c18894dd4b9db396772a6d6be7a9d4d62be91400599e89ed0296cc'


def test_masks_are_disjoint_not_empty_and_partly_hidden() -> None:
    hidden = touching = 0
    for index in range(40):
        image, masks, labels = make_picture(Rng(5, 0, index), SceneSpec())
        assert image.shape == (192, 192, 3)
        assert image.dtype == np.uint8
        assert len(masks) == len(labels)
        assert masks.sum(0).max(initial=0) <= 1
        assert (masks.sum((1, 2)) >= 12).all()
        for one, label in zip(masks, labels):
            grown = cv2.dilate(one.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
            near = [(grown & other).any() for other in masks]
            same = [n for n, other in zip(near, labels) if other == label]
            touching += sum(same) - 1
            hidden += sum(near) - 1
    assert touching > 20
    assert hidden > touching


def test_sizes_and_classes_are_spread() -> None:
    areas, labels = [], []
    for index in range(120):
        _, masks, names = make_picture(Rng(0, 0, index), SceneSpec())
        areas += list(masks.sum((1, 2)))
        labels += names
    share = [np.mean([low <= a < high for a in areas]) for low, high in ((0, 1024), (1024, 9216))]
    assert 0.3 < share[0] < 0.6
    assert max(areas) > 96**2
    counts = np.bincount(labels, minlength=8)
    assert counts.min() >= 5
    assert counts[0] > 2 * counts[7]


@pytest.mark.parametrize(
    'change', [{'height': 16}, {'width': 5000}, {'objects': (3, 2)}, {'weights': (1,)}]
)
def test_senseless_settings_are_refused(change) -> None:
    with pytest.raises(ValueError):
        SceneSpec(**change)
