"""Boundary bands coloured by confidence."""

import numpy as np
import pytest
import torch
from evaluation.scenes import reference_band
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from mmrefine.masks import encode
from mmrefine.visualization.confidence import (
    confidence_colours,
    draw_boundary_confidence,
    sample_map,
)
from mmrefine.visualization.rle_visualizer import RLELocalVisualizer

IMAGE = np.full((40, 50, 3), 100, np.uint8)


def square(x: int, y: int, side: int) -> np.ndarray:
    mask = np.zeros(IMAGE.shape[:2], bool)
    mask[y : y + side, x : x + side] = True
    return mask


def test_red_over_yellow_to_green() -> None:
    colours = confidence_colours(np.array([0.0, 0.5, 0.75, 1.0]))
    assert colours.tolist() == [[255, 0, 0], [255, 0, 0], [255, 255, 0], [0, 255, 0]]
    assert confidence_colours(np.zeros(0)).shape == (0, 3)


def rim(mask: np.ndarray) -> np.ndarray:
    """The pixels of a mask within two of its outside: bool[H, W]."""
    return reference_band(mask.astype(np.uint8), 2).astype(bool)


def test_one_colour_an_instance() -> None:
    masks = np.stack([square(3, 3, 10), square(25, 20, 12)])
    drawn = draw_boundary_confidence(IMAGE, masks, np.array([1.0, 0.2]))
    first, second = (rim(mask) for mask in masks)
    assert (drawn[first] == [0, 255, 0]).all() and (drawn[second] == [255, 0, 0]).all()
    assert (drawn[~(first | second)] == 100).all()
    assert (IMAGE == 100).all()


def test_maps_colour_single_pixels() -> None:
    mask, box = square(10, 10, 20), np.array([10.0, 10, 30, 30])
    values = np.ones((28, 28), np.float32)
    values[:, :14] = 0.0
    drawn = draw_boundary_confidence(IMAGE, mask[None], np.array([0.5]), box[None], [values])
    band = rim(mask)
    left = band & (np.arange(50) < 20)
    assert (drawn[left] == [255, 0, 0]).all() and (drawn[band & ~left] == [0, 255, 0]).all()


def test_pixels_outside_the_box_take_its_border() -> None:
    values = np.arange(4, dtype=np.float32).reshape(2, 2)
    box = np.array([10.0, 10, 20, 20])
    xs, ys = np.array([0, 14, 15, 49]), np.array([0, 14, 15, 39])
    assert sample_map(values, box, xs, ys).tolist() == [0, 0, 3, 3]


def test_mismatches_are_refused() -> None:
    mask = square(0, 0, 5)[None]
    with pytest.raises(ValueError, match=r'differ in number: \[1, 2\]'):
        draw_boundary_confidence(IMAGE, mask, np.ones(2))
    with pytest.raises(ValueError, match='give boxes too'):
        draw_boundary_confidence(IMAGE, mask, np.ones(1), maps=[np.ones((4, 4))])
    with pytest.raises(ValueError, match='below 1, got 1'):
        confidence_colours(np.ones(1), lowest=1)


def instances(count: int, rle: bool, maps: bool) -> InstanceData:
    """Squares with confidences as a RoI head leaves them."""
    corners = torch.tensor([[16.0, 16, 72, 72], [96, 40, 184, 128]])[:count]
    masks = np.zeros((count, 160, 200), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, corners.int().tolist()):
        mask[y1:y2, x1:x2] = True
    found = InstanceData(
        bboxes=corners,
        labels=torch.zeros(count, dtype=torch.long),
        scores=torch.ones(count),
        masks=encode(masks) if rle else torch.from_numpy(masks),
        boundary_confidences=torch.tensor([1.0, 0.1])[:count],
    )
    if maps:
        found.boundary_maps = [torch.full((s, s), c) for s, c in ((28, 1.0), (56, 0.1))][:count]
    return found


@pytest.mark.parametrize('count', [0, 1, 2])
@pytest.mark.parametrize('rle', [False, True])
@pytest.mark.parametrize('maps', [False, True])
def test_the_visualizer_draws_bands_and_numbers(count: int, rle: bool, maps: bool) -> None:
    image = np.full((160, 200, 3), 100, np.uint8)
    visualizer = RLELocalVisualizer()
    visualizer.dataset_meta = dict(classes=('thing',), palette=[(0, 0, 255)])
    pictures = []
    for judged in (True, False):
        found = instances(count, rle, maps and judged)
        if not judged:
            del found.boundary_confidences
        np.random.seed(0)  # mmdet jitters the colours
        visualizer.add_datasample('x', image, DetDataSample(pred_instances=found), draw_gt=False)
        pictures.append(visualizer.get_image())
    drawn = pictures[0]
    changed = (drawn != pictures[1]).any(2)
    assert changed.any() == (count > 0)
    if count == 2:
        # the right sides carry no text
        assert drawn[80, 183].tolist() == [255, 0, 0] and drawn[44, 71].tolist() == [0, 255, 0]
        assert not changed[60:90, 130:180].any()
        assert changed[116:126, 100:116].any()  # the number


def test_pixels_take_the_cell_of_their_centre():
    """Three pixels over two cells: the centre of the middle one lies where the second begins."""
    values = np.array([[0.0, 1.0]], np.float32)
    columns = np.array([9, 10, 11, 12, 13])
    found = sample_map(values, np.array([10.0, 0, 13, 4]), columns, np.zeros(5, int))
    assert found.tolist() == [0, 0, 1, 1, 1]
