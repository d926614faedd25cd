"""Tiles: no object is cut or doubled, and neighbours stay apart."""

import hashlib
import resource
from collections.abc import Iterable, Iterator

import cv2
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from large_pictures import large_picture
from pycocotools import mask as coco_mask
from scipy import ndimage

from mmrefine.apis.predictor import Prediction
from mmrefine.apis.tiles import TiledPredictor
from mmrefine.apis.tiling import Tiling
from mmrefine.masks.rle import boxed_masks_to_rle, encode


class Nearest(Tiling):
    """Reduces without mixing colours, which are numbers of objects here."""

    def reduce(self, pixels: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
        small, scale = super().reduce(pixels)
        rows, columns = (
            ((np.arange(n) + 0.5) * f).astype(int) for n, f in zip(small.shape, scale[::-1])
        )
        return pixels[rows][:, columns], scale


class Truth:
    """Finds in a picture whose colours are numbers of objects just these; object n has the class
    n % classes."""

    reads_arrays = True

    def __init__(self, classes: int = 1) -> None:
        self.classes = tuple(f'class {i}' for i in range(classes))
        self.sizes: list[tuple[int, int]] = []

    def __call__(self, pictures: Iterable[np.ndarray]) -> Iterator[Prediction]:
        for picture in pictures:
            numbers = picture[..., :2].astype(int) @ [1, 256]
            self.sizes.append(numbers.shape)
            yield self.objects(numbers)

    def objects(self, numbers: np.ndarray) -> Prediction:
        # a view that shows less of an object is as sure of it as any other
        sure = {
            n: 0.5 + digest(n, (numbers == n).sum()) / 2 for n in np.unique(numbers).tolist() if n
        }
        found = sorted(sure, key=lambda n: -sure[n])
        rles = [encode((numbers == n)[None])[0] for n in found]
        boxes = coco_mask.toBbox(rles) if rles else np.zeros((0, 4))
        scores = np.array([sure[n] for n in found])
        labels = np.array([n % len(self.classes) for n in found], int)
        return Prediction(numbers.shape, boxes, scores, labels, rles)


def digest(*values: object) -> float:
    """A number in [0, 1) that depends on the values."""
    return hashlib.sha256(repr(values).encode()).digest()[0] / 256


def painted(numbers: np.ndarray) -> np.ndarray:
    return np.dstack([numbers % 256, numbers // 256, 0 * numbers]).astype(np.uint8)


def strings(found: Prediction) -> list[bytes]:
    return sorted(rle['counts'] for rle in found.rles)


def expect_truth(numbers: np.ndarray, tiling: Tiling, classes: int = 1) -> Prediction:
    """Predict tile by tile, and compare with the objects of the whole picture."""
    (found,) = TiledPredictor(Truth(classes), tiling)([painted(numbers)])
    truth = Truth(classes).objects(numbers)
    assert strings(found) == strings(truth)
    kinds = dict(zip((rle['counts'] for rle in truth.rles), truth.labels))
    assert [kinds[rle['counts']] for rle in found.rles] == found.labels.tolist()
    assert (np.diff(found.scores) <= 0).all()
    for box, rle in zip(found.boxes, found.rles):
        np.testing.assert_array_equal(box, coco_mask.toBbox(rle))
    return found


def cells(height: int, width: int, count: int, seed: int) -> np.ndarray:
    """A crowd that leaves no gap: every pixel belongs to the nearest of some points."""
    rng = np.random.default_rng(seed)
    points = rng.random((count, 2)) * [height, width]
    y, x = np.mgrid[:height, :width]
    return 1 + ((y[..., None] - points[:, 0]) ** 2 + (x[..., None] - points[:, 1]) ** 2).argmin(-1)


@settings(max_examples=25)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(40, 260),
    st.integers(40, 260),
    st.integers(1, 40),
    st.integers(48, 120),
    st.integers(16, 40),
    st.integers(1, 3),
)
def test_crowds_of_any_size_come_back_as_they_are(
    seed: int, height: int, width: int, count: int, tile: int, overlap: int, classes: int
) -> None:
    expect_truth(cells(height, width, count, seed), Nearest((tile, tile + 7), overlap), classes)


@settings(max_examples=15)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(100, 260),
    st.integers(1, 30),
    st.integers(1, 12),
    st.integers(48, 120),
    st.integers(16, 40),
)
@example(1081530687, 197, 30, 9, 94, 29)  # the best-scored view shows one part
def test_objects_in_several_parts_come_back_as_they_are(
    seed: int, side: int, count: int, bars: int, tile: int, overlap: int
) -> None:
    """Bars in front of a crowd leave parts, which a tile may show whole without the others."""
    numbers = cells(side, side + 30, count, seed)
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, : side + 30]
    for bar in range(1, bars + 1):
        angle, place, width = rng.random() * np.pi, rng.random() * side, rng.integers(2, 12)
        numbers[abs(np.cos(angle) * x + np.sin(angle) * y - place) < width] = count + bar
    square = np.ones((overlap // 2, overlap // 2), np.uint8)
    for n in np.unique(numbers):
        grown = cv2.dilate((numbers == n).astype(np.uint8), square)
        if cv2.connectedComponents(grown)[0] > 2:
            numbers[numbers == n] = 0  # no tile may show two of its parts
    expect_truth(numbers, Nearest((tile, tile), overlap))


@pytest.mark.parametrize('shift', range(-6, 7))
def test_objects_on_every_seam_are_neither_cut_nor_doubled(shift: int) -> None:
    tiling = Nearest((96, 96), 32)
    numbers = np.zeros((288, 352), int)
    windows = tiling.windows(numbers.shape)
    seams_x, seams_y = np.unique(windows[:, [0, 2]]), np.unique(windows[:, [1, 3]])
    for n, (x, y) in enumerate((x, y) for x in seams_x for y in seams_y):
        numbers[max(y + shift - 10, 0) : y + shift, max(x + shift - 10, 0) : x + shift] = n + 1
    found = expect_truth(numbers, tiling)
    assert len(found) >= 30


def test_touching_bars_across_many_tiles_stay_apart() -> None:
    numbers = np.repeat(1 + np.arange(20), 8)[:, None] * np.ones(500, int)  # 20 bars of 8 rows
    expect_truth(numbers, Nearest((80, 80), 24))
    expect_truth(numbers.T, Nearest((80, 80), 24))


def core(rle: dict, width: int = 1) -> np.ndarray:
    """A mask without its rim, uint8[h, w]; what lies at the edge of the picture stays."""
    square = np.ones((2 * width + 1, 2 * width + 1), bool)
    mask = coco_mask.decode(rle)
    return ndimage.binary_erosion(mask, square, border_value=1).astype(np.uint8)


def changed(found: Prediction, masks: list[np.ndarray]) -> Prediction:
    """The objects, as often as needed, with other masks."""
    order = np.arange(len(masks)) % max(len(found), 1)
    rles = [encode(mask[None])[0] for mask in masks]
    boxes = coco_mask.toBbox(rles) if rles else found.boxes
    return Prediction(found.size, boxes, found.scores[order], found.labels[order], rles)


class Rough(Truth):
    """Draws each outline a pixel too far out or in, or right: another way in every tile."""

    def objects(self, numbers: np.ndarray) -> Prediction:
        found = super().objects(numbers)
        rng = np.random.default_rng(len(self.sizes))
        ways = (
            coco_mask.decode,
            core,
            lambda rle: cv2.dilate(coco_mask.decode(rle), np.ones((3, 3))),
        )
        return changed(found, [ways[rng.integers(3)](rle) for rle in found.rles])


@settings(max_examples=25)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(100, 300),
    st.integers(100, 300),
    st.integers(2, 60),
    st.integers(80, 130),
    st.integers(32, 50),
)
@example(4, 317, 382, 118, 110, 53)  # pieces of a few columns, which are mostly rim
@example(31, 264, 370, 54, 84, 37)
@example(120, 197, 356, 21, 83, 37)
def test_masks_that_differ_from_tile_to_tile_are_of_one_object(
    seed: int, height: int, width: int, count: int, tile: int, overlap: int
) -> None:
    numbers = cells(height, width, count, seed)
    for n in range(1, count + 1):
        if not core(encode((numbers == n)[None])[0], 8).any():
            numbers[numbers == n] = 0  # masks of it may not agree
    (found,) = TiledPredictor(Rough(), Nearest((tile, tile), overlap))([painted(numbers)])
    truth = Truth().objects(numbers)
    if len(truth):
        overlaps = coco_mask.iou(found.rles, truth.rles, [0] * len(truth)) > 0.5
        np.testing.assert_array_equal(overlaps.sum(0), 1)


def test_a_piece_that_another_tile_shows_with_fewer_cuts_is_left_out() -> None:
    class Spilling(Truth):
        """Draws what the upper edge of a tile cuts eight rows too far down."""

        def objects(self, numbers: np.ndarray) -> Prediction:
            found = super().objects(numbers)
            masks = [coco_mask.decode(rle) for rle in found.rles]
            for mask in masks:
                mask[8:] |= mask[:-8] * mask[0].max()
            return changed(found, masks)

    numbers = np.zeros((224, 224), int)
    numbers[118:131, 10:150] = 1  # three rows of it in the lower tiles, two of which cut its ends
    (found,) = TiledPredictor(Spilling(), Nearest((96, 96), 32))([painted(numbers)])
    assert strings(found) == strings(Truth().objects(numbers))


def test_what_a_tile_reports_as_two_objects_remains_two() -> None:
    class Twice(Truth):
        """Reports every object, and its core as another."""

        def objects(self, numbers: np.ndarray) -> Prediction:
            found = super().objects(numbers)
            masks = [coco_mask.decode(rle) for rle in found.rles]
            return changed(found, masks + [core(rle, 2) for rle in found.rles])

    numbers = cells(200, 200, 12, 5)
    (found,) = TiledPredictor(Twice(), Nearest((96, 96), 32))([painted(numbers)])
    truth = Twice().objects(numbers)
    assert len(found) == len(truth) == 24
    overlaps = coco_mask.iou(found.rles, truth.rles, [0] * 24)
    assert (overlaps.max(0) > 0.9).all() and len(set(overlaps.argmax(0))) == 24


def test_boxes_with_empty_masks_are_not_doubled() -> None:
    class Faint(Truth):
        """Gives every object a box and no pixel."""

        def objects(self, numbers: np.ndarray) -> Prediction:
            found = super().objects(numbers)
            empty = encode(np.zeros((1, *numbers.shape), bool))
            found.rles[:] = empty * len(found)
            return found

    numbers = np.zeros((200, 200), int)
    for n, (y, x) in enumerate(np.ndindex(9, 9)):
        numbers[22 * y : 22 * y + 15, 22 * x : 22 * x + 15] = n + 1
    (found,) = TiledPredictor(Faint(), Nearest((96, 96), 32))([painted(numbers)])
    boxes = Truth().objects(numbers).boxes
    assert sorted(found.boxes.tolist()) == sorted(boxes.tolist())


def test_an_object_in_hundreds_of_tiles() -> None:
    numbers = np.zeros((20, 4000), int)
    numbers[5:15, 7:3990] = 1
    expect_truth(numbers, Nearest((20, 20), 5))


def test_objects_with_holes_and_parts_are_joined() -> None:
    y, x = np.mgrid[:300, :300]
    radius = np.hypot(y - 150, x - 150)
    numbers = np.where((radius > 60) & (radius < 140), 1, 0)  # a ring around all inner seams
    numbers[radius < 30] = 2
    expect_truth(numbers, Nearest((96, 96), 32))


def test_what_the_tiles_miss_comes_from_the_reduced_picture() -> None:
    numbers = np.zeros((256, 256), int)
    numbers[20:236, 20:236] = 1
    numbers[100:110, 240:250] = 2

    class Blind(Truth):
        """Sees no object that fills a tile."""

        def objects(self, numbers: np.ndarray) -> Prediction:
            if (numbers == 1).mean() > 0.9:
                numbers = np.zeros_like(numbers)
            return super().objects(numbers)

    (found,) = TiledPredictor(Blind(), Nearest((96, 96), 32))([painted(numbers)])
    truth = Truth().objects(numbers)
    assert len(found) == 2
    assert sorted(coco_mask.iou(found.rles, truth.rles, [0, 0]).max(0))[0] > 0.97


def test_a_crowd_that_melts_in_the_reduced_picture_stays_a_crowd() -> None:
    numbers = cells(256, 256, 60, 3)

    class Melting(Truth):
        """Takes the whole picture for one object where it is reduced."""

        def objects(self, numbers: np.ndarray) -> Prediction:
            whole = len(self.sizes) == 1 + len(Nearest((96, 96), 32).windows((256, 256)))
            return super().objects(np.ones_like(numbers) if whole else numbers)

        def __call__(self, pictures: Iterable[np.ndarray]) -> Iterator[Prediction]:
            for picture in pictures:
                numbers = picture[..., 0].astype(int)
                self.sizes.append(numbers.shape)
                yield self.objects(numbers)

    (found,) = TiledPredictor(Melting(), Nearest((96, 96), 32))([painted(numbers)])
    assert strings(found) == strings(Truth().objects(numbers))


def test_the_model_sees_one_tile_after_the_other() -> None:
    alive: list[int] = []

    class Counting(Truth):
        """Counts what it is given."""

        def __call__(self, pictures: Iterable[np.ndarray]) -> Iterator[Prediction]:
            for picture in pictures:
                assert picture.nbytes <= 64 * 64 * 3
                alive.append(1)
                yield self.objects(picture[..., 0].astype(int))

    list(TiledPredictor(Counting(), Nearest((64, 64), 16))([painted(cells(200, 200, 9, 0))]))
    assert len(alive) == 17  # 16 tiles and the reduced picture


@pytest.mark.slow
def test_a_thousand_objects_of_a_large_picture() -> None:
    _, numbers, labels = large_picture(8192, 8192)
    assert len(labels) >= 1000
    picture = painted(numbers)
    before = peak()
    tiling = Nearest((1024, 1024), 256)
    (found,) = TiledPredictor(Truth(), tiling)([picture])
    used = peak() - before
    seams = np.unique(tiling.windows(numbers.shape)[:, [0, 2]])
    count = len(labels)
    truth = [rle for rle in _encoded(numbers, count) if coco_mask.area(rle)]
    assert strings(found) == sorted(rle['counts'] for rle in truth) and len(found) > 1000
    x, _, w, _ = coco_mask.toBbox(truth).T
    assert sum(((x < seam) & (x + w > seam)).sum() for seam in seams) > 200
    assert used < 1000


def _encoded(numbers: np.ndarray, count: int) -> Iterator[dict]:
    """Masks of the objects, each from its own box."""
    for n, box in enumerate(ndimage.find_objects(numbers, count), 1):
        if box is not None:
            inside = torch.from_numpy(numbers[box] == n)
            corner = (box[1].start, box[0].start)
            yield boxed_masks_to_rle([inside], [corner], numbers.shape)[0]


def peak() -> float:
    """Most memory of the process so far in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


# What users may give.


def test_a_picture_smaller_than_a_tile_goes_through_whole() -> None:
    predictor = Truth()
    picture = painted(cells(60, 90, 5, 1))
    (found,) = TiledPredictor(predictor, Tiling((90, 90), 20))([picture])
    assert predictor.sizes == [(60, 90)]
    assert strings(found) == strings(Truth().objects(picture[..., 0].astype(int)))


@pytest.mark.parametrize(
    'size', [(1, 700), (700, 1), (2, 300), (200, 3000), (97, 96), (96, 97), (1, 1)]
)
def test_strips_and_single_pixels(size: tuple[int, int]) -> None:
    expect_truth(cells(*size, 7, 0), Nearest((96, 96), 32))


def test_a_scan_of_thirty_thousand_columns() -> None:
    numbers = np.zeros((200, 30_000), int)
    for n, x in enumerate(range(5, 29_900, 97)):
        numbers[20 + n % 90 : 100 + n % 90, x : x + 90] = n + 1
    predictor = Truth()
    found = list(TiledPredictor(predictor, Tiling((1024, 1024), 128))([painted(numbers)]))
    assert strings(found[0]) == strings(Truth().objects(numbers))
    assert set(predictor.sizes) == {(200, 1024)}  # reduced, it would be seven pixels high


def test_pictures_without_objects() -> None:
    found = expect_truth(np.zeros((300, 200), int), Nearest((96, 96), 32))
    assert len(found) == 0 and found.boxes.shape == (0, 4) and found.size == (300, 200)
