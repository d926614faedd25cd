"""How pictures are cut: tiles cover them with the overlap, and what makes no sense is named."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrefine.apis.tiling import Tiling, read_tiling


@pytest.mark.parametrize(
    ('tile', 'overlap', 'message'),
    [
        (256, 256, 'overlap by 256: give larger tiles'),
        ((256, 128), 200, '256 x 128 pixels overlap by 200'),
        (0, None, 'positive sides'),
        (128, -1, 'overlap of 0 or more'),
        (None, 64, 'needs tiles'),
        ((1, 2, 3), None, 'a height and a width'),
    ],
)
def test_tiles_that_make_no_sense(tile: object, overlap: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_tiling(tile, overlap)


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(2, 700), st.integers(0, 600))
def test_tiles_cover_the_picture_with_the_overlap(h: int, w: int, tile: int, overlap: int) -> None:
    tiling = Tiling((tile, tile), min(overlap, tile - 1))
    if h * w > 2_000_000 or tile - tiling.overlap < 8:
        return
    windows = tiling.windows((h, w))
    for low, high, side in ((0, 2, w), (1, 3, h)):
        spans = np.unique(windows[:, [low, high]], axis=0)
        assert spans[0, 0] == 0 and spans[-1, 1] == side
        assert (spans[:, 1] - spans[:, 0] == min(tile, side)).all()
        assert (spans[:-1, 1] - spans[1:, 0] >= tiling.overlap).all()
