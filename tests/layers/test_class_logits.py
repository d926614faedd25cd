"""Gathered logits equal the class-wise convolution they replace."""

import pytest
import torch
import torch.nn.functional as F

from mmrefine.layers import ClassLogits


@pytest.mark.parametrize('count', [0, 1, 7])
@pytest.mark.parametrize('classes', [1, 5])
def test_values_and_gradients(count: int, classes: int) -> None:
    layer = ClassLogits(6, classes).double()
    x = torch.randn(count, 6, 4, 4, dtype=torch.double, requires_grad=True)
    labels = torch.randint(5, (count,))  # ignored by a class-agnostic layer
    picked = F.conv2d(x, layer.weight, layer.bias)[
        torch.arange(count), labels.clamp(max=classes - 1)
    ]
    expected = torch.autograd.grad(picked.square().sum(), [x, layer.weight, layer.bias])
    ours = layer(x, labels)
    assert ours.shape == (count, 1, 4, 4)
    torch.testing.assert_close(ours[:, 0], picked)
    actual = torch.autograd.grad(ours.square().sum(), [x, layer.weight, layer.bias])
    torch.testing.assert_close(actual, expected)


def test_all_classes_without_labels() -> None:
    layer = ClassLogits(6, 5)
    assert layer(torch.randn(2, 6, 3, 3)).shape == (2, 5, 3, 3)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_logits_have_the_type_of_autocast_as_those_of_all_classes(dtype: torch.dtype) -> None:
    layer, labels = ClassLogits(6, 5), torch.tensor([4, 0, 2])
    x = torch.randn(3, 6, 4, 4)
    with torch.autocast('cpu', dtype=dtype):
        own, every = layer(x, labels), layer(x)
    assert own.dtype == every.dtype == dtype
    torch.testing.assert_close(own[:, 0], every[range(3), labels], atol=0.02, rtol=0.02)
