"""Given boxes of a large picture get their masks on the tile that shows most around them."""

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from mmrefine.apis.tiled_boxes import TiledBoxSegmenter
from mmrefine.apis.tiling import Tiling
from mmrefine.masks import encode

SIZE = (150, 210)
TILING = Tiling((64, 80), 40)


class Painter:
    """Gives the pixels of the box whose colour is the label, and notes what it was shown."""

    def __init__(self, flags: int = cv2.IMREAD_COLOR) -> None:
        self.shown: list[tuple[tuple[int, int], int]] = []
        self.prepare = SimpleNamespace(read=lambda path: cv2.imread(str(path), flags))

    def segment(
        self, image: Path | np.ndarray, boxes: np.ndarray, labels: np.ndarray
    ) -> tuple[list[dict], tuple[int, int]]:
        pixels = cv2.imread(str(image)) if isinstance(image, Path) else image
        self.shown.append((pixels.shape[:2], len(boxes)))
        masks = []
        for (x1, y1, x2, y2), label in zip(np.asarray(boxes).round().astype(int), labels):
            mask = np.zeros(pixels.shape[:2], bool)
            mask[y1:y2, x1:x2] = pixels[y1:y2, x1:x2, 0] == int(label)
            masks.append(encode(mask[None])[0])
        return masks, pixels.shape[:2]


def discs(folder: Path) -> tuple[Path, torch.Tensor, list[int], np.ndarray]:
    """A picture file, the boxes and colours of its discs, and their masks."""
    rng = np.random.default_rng(0)
    picture, boxes = np.zeros((*SIZE, 3), np.uint8), []
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    for label in range(1, 31):
        row, column, radius = (
            rng.integers(0, SIZE[0]),
            rng.integers(0, SIZE[1]),
            rng.integers(4, 17),
        )
        picture[(y - row) ** 2 + (x - column) ** 2 < radius**2] = label
        boxes.append((column - radius, row - radius, column + radius, row + radius))
    cv2.imwrite(str(folder / 'a.png'), picture)
    limits = torch.tensor([SIZE[1], SIZE[0]] * 2)
    inside = torch.minimum(torch.tensor(boxes).clamp(min=0), limits).double()
    labels = list(range(1, 31))
    return folder / 'a.png', inside, labels, picture[..., 0] == np.array(labels)[:, None, None]


def test_boxes_that_a_tile_holds_get_the_masks_of_the_whole_picture(tmp_path: Path) -> None:
    file, boxes, labels, truth = discs(tmp_path)
    painter = Painter()
    masks, size = TiledBoxSegmenter(painter, TILING).segment(file, boxes, labels)
    assert size == SIZE and len(masks) == 30
    for mask, expected in zip(masks, truth):
        np.testing.assert_array_equal(coco_mask.decode(mask).astype(bool), expected)
    assert sum(count for _, count in painter.shown) == 30
    assert {shape for shape, _ in painter.shown} == {TILING.size}


def test_a_box_that_no_tile_holds_is_seen_in_the_reduced_picture(tmp_path: Path) -> None:
    picture = np.zeros((*SIZE, 3), np.uint8)
    picture[20:130, 30:190] = 1
    cv2.imwrite(str(tmp_path / 'a.png'), picture)
    painter = Painter()
    masks, _ = TiledBoxSegmenter(painter, TILING).segment(
        tmp_path / 'a.png', [[30, 20, 190, 130]], [1]
    )
    ((shape, _),) = painter.shown
    assert shape[0] <= 64 and shape[1] <= 80
    expected = encode((picture[..., 0] == 1)[None])
    assert coco_mask.iou(masks, expected, [0])[0, 0] > 0.93  # a reduced pixel is 2.7 wide


@pytest.mark.parametrize('boxes', [torch.zeros(0, 4), torch.tensor([[5.0, 5, 20, 30]])])
def test_small_pictures_are_not_cut(tmp_path: Path, boxes: torch.Tensor) -> None:
    cv2.imwrite(str(tmp_path / 'a.png'), np.ones((60, 70, 3), np.uint8))
    painter = Painter()
    masks, size = TiledBoxSegmenter(painter, TILING).segment(
        tmp_path / 'a.png', boxes, [1] * len(boxes)
    )
    assert size == (60, 70) and len(masks) == len(boxes)
    assert painter.shown == [((60, 70), len(boxes))]


def test_pictures_are_read_as_the_config_says(tmp_path: Path) -> None:
    picture = np.zeros((*SIZE, 3), np.uint8)
    picture[20:40, 130:170] = 255
    exif = Image.Exif()
    exif[0x112] = 6  # to be turned by a quarter
    Image.fromarray(picture).save(tmp_path / 'a.jpg', exif=exif, quality=100)
    painter = Painter(cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    tiled = TiledBoxSegmenter(painter, TILING)
    masks, size = tiled.segment(tmp_path / 'a.jpg', [[130, 20, 170, 40]], [255])
    assert size == SIZE
    assert coco_mask.iou(masks, encode((picture[..., 0] == 255)[None]), [0])[0, 0] > 0.9
