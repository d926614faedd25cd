"""RoIAlign as weighted sums of rows against mmcv's kernel."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.ops import roi_align as mmcv_roi_align
from torch import Tensor

from mmrefine.layers import point_roi_align, roi_align, row_pooling
from mmrefine.layers.row_pooling import FEWEST_CHANNELS

ROIS = torch.tensor([[0.0, 3, 5, 60, 44], [1.0, 20, -8, 110, 90]])


def features(height: int = 20, width: int = 26, channels: int = FEWEST_CHANNELS) -> Tensor:
    """Noise of two images."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, channels, height, width, generator=generator)


def by_kernel(feats: Tensor, rois: Tensor, size: int, sampling_ratio: int = 0) -> Tensor:
    # mmcv reads channels-last maps in the wrong order
    return mmcv_roi_align(feats.contiguous(), rois, size, 0.25, sampling_ratio, 'avg', True)


side = st.floats(0, 130, width=32)


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 1), side, side, side, side), max_size=5),
    st.sampled_from([1, 7, 14]),
    st.sampled_from([0, 1, 2]),
)
def test_values_are_those_of_the_kernel(boxes: list, size: int, sampling_ratio: int) -> None:
    # up to half outside the map of 104 x 80 pixels
    rois = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 5)
    rois[:, 1:3] -= 25
    rois[:, 3:] = rois[:, 1:3] + rois[:, 3:]
    ours = roi_align(features(), rois, size, 0.25, sampling_ratio)
    assert ours.shape == (len(rois), FEWEST_CHANNELS, size, size)
    if len(rois):
        theirs = by_kernel(features(), rois, size, sampling_ratio)
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize('box', [[30.0, 30, 30, 60], [60.0, 50, 20, 10], [float('nan')] * 4])
def test_boxes_without_area_give_zeros(box: list[float]) -> None:
    rois = torch.tensor([[0.0, *box], [1.0, 4, 4, 40, 40]])
    pooled = roi_align(features(), rois, 7, 0.25)
    assert not pooled[0].any() and pooled[1].all()


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('channels', [FEWEST_CHANNELS - 1, FEWEST_CHANNELS])
def test_gradients_are_those_of_the_kernel(
    memory_format: torch.memory_format, channels: int
) -> None:
    weights = torch.randn(2, channels, 7, 7, generator=torch.Generator().manual_seed(1))
    feats = features(channels=channels).to(memory_format=memory_format).requires_grad_()
    pairs = [
        (pooled, *torch.autograd.grad((pooled * weights).sum(), feats))
        for pooled in (roi_align(feats, ROIS, 7, 0.25), by_kernel(feats, ROIS, 7))
    ]
    torch.testing.assert_close(*pairs, rtol=1e-4, atol=2e-5)


def test_points_may_lie_outside_the_map() -> None:
    rois = torch.tensor([[0.0, -30, -30, 200, 150], [1.0, 90, 70, 130, 100]])
    feats = features()
    # below the fewest channels the kernel itself pools
    expected = torch.cat([point_roi_align(part, rois, 14, 4) for part in feats.split(16, dim=1)], 1)
    torch.testing.assert_close(point_roi_align(feats, rois, 14, 4), expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_it_compiles_and_keeps_the_operator_contract(memory_format: torch.memory_format) -> None:
    feats = features().to(memory_format=memory_format).requires_grad_()
    torch.library.opcheck(
        torch.ops.mmrefine.roi_align.default,
        (feats, ROIS, 7, 0.25, 0),
        test_utils=('test_schema', 'test_faketensor', 'test_autograd_registration'),
    )


@pytest.mark.parametrize('longest', [1700.0, 1900.0])
@pytest.mark.parametrize('weights', [1, 1 << 23])
def test_enormous_boxes_give_the_values_of_the_kernel(
    longest: float, weights: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_pooling, '_WEIGHTS', weights)  # one RoI at a time, or all at once
    rois = torch.tensor([[0.0, -100, 0, longest - 100, 80], [1.0, -100, 0, longest - 100, 80]])
    feats = features(width=500)
    ours = roi_align(feats, rois, 7, 0.25)
    torch.testing.assert_close(ours, by_kernel(feats, rois, 7), rtol=1e-4, atol=2e-5)
