"""RoIAlign as weighted sums of rows against mmcv's kernel."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.ops import roi_align as mmcv_roi_align
from torch import Tensor

from mmrefine.layers import point_roi_align, roi_align
from mmrefine.layers.row_pooling import FEWEST_CHANNELS, pools_rows


def channels_last(height: int = 20, width: int = 26, channels: int = FEWEST_CHANNELS) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    feats = torch.randn(2, channels, height, width, generator=generator)
    return feats.to(memory_format=torch.channels_last)


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
    feats = channels_last()
    assert pools_rows(feats)
    ours = roi_align(feats, rois, size, 0.25, sampling_ratio)
    assert ours.shape == (len(rois), FEWEST_CHANNELS, size, size)
    if len(rois):
        theirs = mmcv_roi_align(feats.contiguous(), rois, size, 0.25, sampling_ratio, 'avg', True)
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize('box', [[30.0, 30, 30, 60], [60.0, 50, 20, 10], [float('nan')] * 4])
def test_boxes_without_area_give_zeros(box: list[float]) -> None:
    rois = torch.tensor([[0.0, *box], [1.0, 4, 4, 40, 40]])
    pooled = roi_align(channels_last(), rois, 7, 0.25)
    assert not pooled[0].any() and pooled[1].all()


def test_gradients_are_those_of_the_kernel() -> None:
    rois = torch.tensor([[0.0, 3, 5, 60, 44], [1.0, 20, -8, 110, 90]])
    weights = torch.randn(2, FEWEST_CHANNELS, 7, 7, generator=torch.Generator().manual_seed(1))
    gradients = []
    for form in (torch.channels_last, torch.contiguous_format):
        feats = channels_last().to(memory_format=form, copy=True).requires_grad_()
        (roi_align(feats, rois, 7, 0.25) * weights).sum().backward()
        gradients.append(feats.grad)
    torch.testing.assert_close(*gradients)


def test_few_channels_and_other_orders_keep_the_kernel() -> None:
    assert not pools_rows(channels_last().contiguous())
    assert not pools_rows(channels_last(channels=FEWEST_CHANNELS - 1))


def test_points_may_lie_outside_the_map() -> None:
    rois = torch.tensor([[0.0, -30, -30, 200, 150], [1.0, 90, 70, 130, 100]])
    feats = channels_last()
    expected = point_roi_align(feats.contiguous(), rois, 14, 4)
    torch.testing.assert_close(point_roi_align(feats, rois, 14, 4), expected, rtol=1e-4, atol=2e-5)


def test_it_compiles_and_keeps_the_operator_contract() -> None:
    rois = torch.tensor([[0.0, 3, 5, 60, 44], [1.0, 20, 8, 80, 70]])
    torch.library.opcheck(
        torch.ops.mmrefine.roi_align.default,
        (channels_last().requires_grad_(), rois, 7, 0.25, 0),
        test_utils=('test_schema', 'test_faketensor', 'test_autograd_registration'),
    )


@pytest.mark.parametrize('longest', [1700.0, 1900.0])
def test_enormous_boxes_give_the_values_of_the_kernel(longest: float) -> None:
    """Beyond 64 samples per bin and axis the kernel itself pools."""
    rois = torch.tensor([[0.0, -100, 0, longest - 100, 80], [1.0, 10, 10, 60, 40]])
    feats = channels_last(height=20, width=500)
    ours = roi_align(feats, rois, 7, 0.25)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    theirs = mmcv_roi_align(feats.contiguous(), rois, 7, 0.25, 0, 'avg', True)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5)
