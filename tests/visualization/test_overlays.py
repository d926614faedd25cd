"""Ground truth beside prediction."""

import colorsys

import numpy as np
import pytest

from mmrefine.masks import encode
from mmrefine.visualization.instances import Instances
from mmrefine.visualization.overlays import (
    contact_sheet,
    draw_instances,
    instance_colour,
    letter_height,
    neighbour_colours,
    truth_beside_prediction,
)


def squares(*corners: int) -> np.ndarray:
    masks = np.zeros((len(corners), 24, 32), bool)
    for mask, corner in zip(masks, corners):
        mask[corner : corner + 8, corner : corner + 8] = True
    return masks


def test_only_masked_pixels_are_tinted() -> None:
    image = np.full((24, 32, 3), 100, np.uint8)
    drawn = draw_instances(image, squares(4), [''], [(255, 0, 0)])
    inside = squares(4)[0]
    assert (drawn[~inside] == 100).all()
    assert (drawn[inside][:, 0] > 150).all()
    assert (drawn[inside][:, 1:] <= 65).all()  # a third of the colour
    assert (image == 100).all()


def test_holes_stay_open() -> None:
    mask = squares(4)
    mask[0, 7:9, 7:9] = False
    drawn = draw_instances(np.zeros((24, 32, 3), np.uint8), mask, [''], [(0, 255, 0)])
    assert not drawn[7:9, 7:9].any()


def test_names_are_written_inside_the_picture() -> None:
    image = np.full((24, 32, 3), 100, np.uint8)
    plain = draw_instances(image, squares(16), [''], [(0, 0, 0)], 3)
    named = draw_instances(image, squares(16), ['star'], [(0, 0, 0)], 3)
    assert named.shape == (72, 96, 3)
    assert (named != plain).any()


def test_a_text_does_not_hide_a_small_object() -> None:
    image = np.full((600, 800, 3), 100, np.uint8)
    masks = np.zeros((2, 600, 800), bool)
    masks[0, 300:312, 400:412] = True
    masks[1, 350:550, 100:400] = True
    colours = [(255, 0, 0)] * 2
    plain = draw_instances(image, masks, ['', ''], colours)
    named = draw_instances(image, masks, ['pebble 0.93'] * 2, colours)
    assert (named[masks[0]] == plain[masks[0]]).all() and (named[280:300] != 100).any()
    assert (named[masks[1]] != plain[masks[1]]).any()  # in the middle of a large one
    masks[0] = np.roll(masks[0], -300, 0)  # at the upper edge there is no room above
    assert (draw_instances(image, masks, ['star', ''], colours)[:15] != 100).any()


def test_panoramas_have_letters_for_their_length() -> None:
    """Letters follow the area: those of the shorter side would be lost on a strip."""
    assert letter_height((8000, 800)) > letter_height((1200, 800)) > letter_height((800, 800))
    assert letter_height((64, 64)) == 11


def test_predictions_take_the_colour_of_the_object_they_cover() -> None:
    image = np.zeros((24, 32, 3), np.uint8)
    truth = Instances(encode(squares(0, 12)), [0, 0])
    prediction = Instances(encode(np.concatenate([squares(12), squares(6)])), [1, 0])
    drawn = truth_beside_prediction(image, truth, prediction, ['', ''], scale=1)
    assert drawn.shape == (18 + 24, 2 * 32 + 4, 3)
    left, right = drawn[18:, :32], drawn[18:, 36:]
    assert (right[16, 16] == left[16, 16]).all()
    assert not (left[0, 0] == left[16, 16]).all()
    # The second prediction overlaps neither square by half: grey. Categories do not matter.
    assert len(set(right[8, 8].tolist())) == 1


def test_pictures_without_objects_or_predictions_can_be_drawn() -> None:
    image = np.zeros((24, 32, 3), np.uint8)
    nothing, one = Instances([], []), Instances(encode(squares(3)), [0])
    for truth, prediction in ((nothing, nothing), (nothing, one), (one, nothing)):
        drawn = truth_beside_prediction(image, truth, prediction, ['a'], scale=2)
        assert drawn.shape == (18 + 48, 2 * 64 + 4, 3)


def test_colours_are_distinct() -> None:
    assert len({instance_colour(index) for index in range(100)}) == 100


def test_neighbours_differ_in_hue() -> None:
    """Of 200 objects anywhere, each and the four before it that are nearest."""
    boxes = np.random.default_rng(0).uniform(0, 500, (200, 4))
    colours = neighbour_colours(boxes)
    assert len(set(colours)) > 8
    centres = boxes[:, :2] + boxes[:, 2:] / 2
    hues = np.array([colorsys.rgb_to_hsv(*(v / 255 for v in colour))[0] for colour in colours])
    for i in range(1, 200):
        near = np.argsort(np.hypot(*(centres[:i] - centres[i]).T), kind='stable')[:4]
        apart = np.abs(hues[near] - hues[i])
        assert np.minimum(apart, 1 - apart).min() > 0.06
    assert neighbour_colours(boxes[:0]) == []


def test_sheets_pad_panels_of_different_sizes() -> None:
    panels = [np.zeros((10, 20, 3), np.uint8), np.zeros((14, 8, 3), np.uint8)] * 2
    sheet = contact_sheet(panels[:3], columns=2)
    assert sheet.shape == (2 * 22, 2 * 28, 3)
    assert (sheet[4:14, 4:24] == 0).all()
    assert (sheet == 0).all(2).sum() == 200 + 112 + 200
    with pytest.raises(ValueError, match='no panels'):
        contact_sheet([])


def test_mismatches_are_refused() -> None:
    image, masks = np.zeros((24, 32, 3), np.uint8), squares(0, 1)
    with pytest.raises(ValueError, match='2 masks, 1 texts'):
        draw_instances(image, masks, ['a'], [(0, 0, 0)] * 2)
    with pytest.raises(ValueError, match='picture'):
        draw_instances(image[:9, :9], masks, ['a', 'b'], [(0, 0, 0)] * 2)


def test_rles_are_drawn_as_masks_are() -> None:
    image, masks = np.full((24, 32, 3), 100, np.uint8), squares(2, 9)
    colours = [instance_colour(0), instance_colour(1)]
    drawn = [draw_instances(image, m, ['a', 'b'], colours, 2) for m in (masks, encode(masks))]
    np.testing.assert_array_equal(*drawn)
