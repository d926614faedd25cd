"""Masks that do not overlap: compared with the order of dense masks."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mmrefine.apis.exclusive import exclusive_masks
from mmrefine.apis.predictor import Prediction
from mmrefine.masks.rle import encode


@given(st.integers(0, 2**32 - 1), st.integers(0, 6))
def test_exclusive_masks_give_each_pixel_to_the_best(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, 30, 40), bool)
    for mask in masks:
        y, x = rng.integers(0, 30), rng.integers(0, 40)
        mask[y : y + rng.integers(1, 25), x : x + rng.integers(1, 30)] = True
    scores = np.sort(rng.random(count))[::-1]
    found = Prediction((30, 40), np.zeros((count, 4)), scores, np.arange(count), encode(masks))
    result = exclusive_masks(found)
    owner = np.where(masks.any(0), masks.argmax(0) if count else 0, -1)
    expected = [i for i in range(count) if (owner == i).any()]
    assert result.labels.tolist() == expected
    assert result.rles == [encode(owner[None] == i)[0] for i in expected]
