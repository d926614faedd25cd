"""Masks cut by others, compared with dense ones."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mmrefine.masks import encode
from mmrefine.masks.crops import subtract_masks


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 9), st.integers(0, 4))
def test_pixels_of_others_are_cut_off(seed: int, height: int, width: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    masks = rng.random((count + 1, height, width)) < rng.random((count + 1, 1, 1)) * 1.2
    rles = encode(masks)
    (expected,) = encode((masks[0] & ~masks[1:].any(0))[None])
    assert subtract_masks(rles[0], rles[1:]) == expected
