"""Deformable convolution as weighted sums of rows, against mmcv's."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.ops import DeformConv2d
from torch.nn import functional as F

from mmrefine.sipmask import align, deform_rows
from mmrefine.sipmask.deform_rows import deform_conv_rows


@settings(max_examples=40)
@given(
    st.integers(1, 3),
    st.integers(3, 12),
    st.integers(3, 12),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([0.0, 0.5, 6.0]),
    st.sampled_from([5, 2048]),
    st.integers(0, 99),
)
def test_equals_mmcv(
    batch: int, height: int, width: int, groups: int, spread: float, strip: int, seed: int
) -> None:
    torch.manual_seed(seed)
    layer = DeformConv2d(8, 12, 3, padding=1, deform_groups=groups)
    features = torch.randn(batch, 8, height, width)
    offset = torch.randn(batch, 18 * groups, height, width) * spread
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(deform_rows, 'STRIP', strip)
        ours = deform_conv_rows(features, offset, layer.weight)
        torch.testing.assert_close(ours, layer(features, offset), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('kernel', [1, 5])
def test_other_kernels(kernel: int) -> None:
    layer = DeformConv2d(8, 4, kernel, padding=kernel // 2, deform_groups=2)
    features, offset = torch.randn(2, 8, 9, 7), torch.randn(2, 4 * kernel**2, 9, 7)
    with torch.no_grad():
        expected = layer(features, offset)
        torch.testing.assert_close(deform_conv_rows(features, offset, layer.weight), expected)


@pytest.mark.parametrize('form', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('size', [(1, 1), (1, 5), (2, 3)])
def test_maps_smaller_than_the_kernel(size: tuple[int, int], form: torch.memory_format) -> None:
    features, weight = torch.randn(2, 4, *size).to(memory_format=form), torch.randn(4, 4, 3, 3)
    ours = deform_conv_rows(features, torch.zeros(2, 18, *size), weight)
    torch.testing.assert_close(ours, F.conv2d(features, weight, padding=1))


@pytest.mark.parametrize('bad', [float('nan'), float('inf'), -float('inf'), 1e30, -1e30])
def test_positions_that_are_none_read_zero(bad: float) -> None:
    features, weight = torch.randn(1, 4, 3, 3), torch.randn(4, 4, 3, 3)
    offset = torch.full((1, 18, 3, 3), bad)
    assert not deform_conv_rows(features, offset, weight).any()


def test_prediction_takes_it_and_learning_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(align, 'deform_conv_rows', lambda *inputs: calls.append(inputs))
    inputs = torch.randn(1, 4, 3, 3), torch.randn(1, 72, 3, 3), torch.randn(4, 4, 3, 3)
    align.deform_conv(*inputs)
    assert len(calls) == 1
    inputs[1].requires_grad_()
    align.deform_conv(*inputs).sum().backward()
    assert len(calls) == 1 and inputs[1].grad is not None
    with torch.no_grad():
        align.deform_conv(*inputs)
    assert len(calls) == 2
