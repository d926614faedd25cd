"""Boundary maps against the definition, pixel by pixel."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrefine.layers import boundary_map, resize_band


def by_definition(mask: np.ndarray, width: int) -> np.ndarray:
    """More than 10 % of the window has the other label; outside is background."""
    padded = np.pad(mask, width)
    out = np.zeros_like(mask)
    side = 2 * width + 1
    for y, x in np.ndindex(mask.shape):
        window = padded[y : y + side, x : x + side]
        out[y, x] = (window != mask[y, x]).sum() > 0.1 * side * side
    return out


@given(
    st.integers(1, 9),
    st.integers(1, 9),
    st.sampled_from([1, 2, 3, 4, 8]),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=60)
def test_equals_the_definition(height: int, width: int, band: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((height, width)) < rng.random()
    ours = boundary_map(torch.from_numpy(mask), band)
    assert (ours.numpy() == by_definition(mask, band)).all()


def test_no_masks() -> None:
    assert boundary_map(torch.zeros(0, 1, 14, 14, dtype=torch.bool), 2).shape == (0, 1, 14, 14)
    assert resize_band(torch.zeros(0, 1, 14, 14, dtype=torch.bool), 28).shape == (0, 1, 28, 28)


def test_zero_width_is_refused() -> None:
    with pytest.raises(ValueError, match='at least 1 pixel, got 0'):
        boundary_map(torch.zeros(1, 1, 4, 4, dtype=torch.bool), 0)


def test_resized_band_is_the_complement_of_the_resized_complement() -> None:
    # interpolated values never hit one half exactly: training and inference therefore agree
    band = torch.rand(64, 1, 56, 56) < 0.5
    assert (resize_band(band, 112) == ~resize_band(~band, 112)).all()
