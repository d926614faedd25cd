"""Pairs of predictions and objects, and the pixels between them."""

import numpy as np
import torch

from mmrefine.masks import encode
from mmrefine.visualization.instances import Instances, match
from mmrefine.visualization.report_pictures import (
    COLOURS,
    EXTRA,
    FALSE_OBJECT,
    LOST_OBJECT,
    MISSED,
    draw_errors,
    error_map,
)

SIZE = (40, 60)


def objects(
    *boxes: tuple[int, int, int, int],
    scores: tuple[float, ...] = (),
    categories: tuple[int, ...] = (),
    crowd: tuple[bool, ...] = (),
) -> Instances:
    """Rectangles (x1, y1, x2, y2)."""
    masks = torch.zeros(len(boxes), *SIZE, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes):
        mask[y1:y2, x1:x2] = True
    n = len(boxes)
    return Instances(
        encode(masks),
        list(categories or (1,) * n),
        np.array(scores or (1.0,) * n, float),
        np.array(crowd or (False,) * n, bool),
    )


def test_the_best_score_chooses_first_and_categories_must_agree() -> None:
    truth = objects((0, 0, 10, 10), (20, 0, 30, 10))
    found = objects(
        (0, 0, 10, 9),
        (0, 0, 10, 10),
        (20, 0, 30, 10),
        scores=(0.9, 0.8, 0.7),
        categories=(1, 1, 2),
    )
    partner, ious = match(truth, found)
    assert partner == [0, -1, -1]
    assert np.allclose(ious, [[0.9, 0], [1, 0], [0, 1]])


def test_predictions_inside_a_crowd_are_no_errors() -> None:
    truth = objects((0, 0, 40, 30), crowd=(True,))
    partner, _ = match(truth, objects((5, 5, 10, 10), (45, 5, 50, 10)))
    assert partner == [-2, -1]
    errors = error_map(truth, objects((5, 5, 10, 10), (45, 5, 50, 10)), partner, SIZE)
    assert set(np.unique(errors)) == {0, FALSE_OBJECT}
    assert (errors == FALSE_OBJECT).sum() == 25


def test_a_crowd_takes_any_number_of_predictions() -> None:
    truth = objects((0, 0, 40, 30), (45, 0, 55, 10), crowd=(True, False))
    found = objects((5, 5, 10, 10), (20, 5, 30, 10), (10, 10, 15, 20), (45, 0, 55, 10))
    partner, _ = match(truth, found)
    assert partner == [-2, -2, -2, 1]
    assert not error_map(truth, found, partner, SIZE).any()


def test_the_best_prediction_may_come_last() -> None:
    found = objects((0, 0, 10, 9), (0, 0, 10, 10), scores=(0.3, 0.6))
    assert match(objects((0, 0, 10, 10)), found)[0] == [-1, 0]


def test_every_kind_of_error_has_its_pixels() -> None:
    truth = objects((0, 0, 10, 10), (30, 20, 40, 30))
    found = objects((2, 0, 11, 10), (50, 0, 55, 5))
    partner, _ = match(truth, found)
    errors = error_map(truth, found, partner, SIZE)
    assert (errors[:10, :2] == MISSED).all() and (errors == MISSED).sum() == 20
    assert (errors[:10, 10] == EXTRA).all() and (errors == EXTRA).sum() == 10
    assert (errors == LOST_OBJECT).sum() == 100
    assert (errors == FALSE_OBJECT).sum() == 25


def test_equal_masks_have_no_errors() -> None:
    truth = objects((0, 0, 10, 10), (30, 20, 40, 30))
    assert not error_map(truth, truth, match(truth, truth)[0], SIZE).any()


def test_nothing_against_nothing() -> None:
    none = objects()
    partner, ious = match(none, none)
    assert partner == [] and ious.shape == (0, 0)
    assert not error_map(none, none, partner, SIZE).any()
    assert match(none, objects((0, 0, 5, 5)))[0] == [-1]


def test_thin_errors_stay_visible_in_a_small_drawing() -> None:
    size = (400, 600)
    errors = np.zeros(size, np.uint8)
    errors[100:300, 200] = MISSED
    image = np.full((*size, 3), 90, np.uint8)
    drawn = draw_errors(image, errors, [], (100, 150))
    assert drawn.shape == (100, 150, 3)
    assert (drawn == COLOURS[MISSED]).all(-1).sum() == 50
