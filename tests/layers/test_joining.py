"""Joining maps keeps values, gradients and the memory format."""

import pytest
import torch

from mmrefine.layers import join_channels

FORMATS = [torch.contiguous_format, torch.channels_last]


@pytest.mark.parametrize('form', FORMATS)
@pytest.mark.parametrize('count', [0, 1, 3])
def test_values_and_form(form: torch.memory_format, count: int) -> None:
    first = torch.randn(count, 4, 5, 7).to(memory_format=form).requires_grad_()
    others = [torch.randn(count, 1, 5, 7, requires_grad=True), torch.randn(count, 3, 5, 7)]
    joined = join_channels([first, *others])
    assert torch.equal(joined, torch.cat([first, *others], dim=1))
    assert joined.is_contiguous(memory_format=form)
    weight = torch.randn_like(joined)
    (joined * weight).sum().backward()
    assert torch.equal(first.grad, weight[:, :4]) and torch.equal(others[0].grad, weight[:, 4:5])
