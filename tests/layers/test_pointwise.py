import pytest
import torch
import torch.nn.functional as F

from mmrefine.layers.pointwise import conv1x1


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('batch, height, width', [(1, 1, 1), (1, 7, 5), (3, 4, 6), (0, 4, 6)])
@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('biased', [True, False])
def test_values_and_gradients_are_those_of_a_convolution(
    batch, height, width, stride, biased, layout
):
    torch.manual_seed(0)
    inputs = [
        torch.randn(batch, 6, height, width).to(memory_format=layout),
        torch.randn(4, 6, 1, 1),
    ]
    if biased:
        inputs.append(torch.randn(4))
    inputs = [x.double().requires_grad_() for x in inputs]
    ours = conv1x1(*inputs, stride=stride)
    stock = F.conv2d(*inputs, stride=stride)
    torch.testing.assert_close(ours, stock)
    weight = torch.randn_like(stock)
    for own, reference in zip(
        torch.autograd.grad((ours * weight).sum(), inputs),
        torch.autograd.grad((stock * weight).sum(), inputs),
    ):
        torch.testing.assert_close(own, reference)


def test_single_precision_agrees_to_rounding():
    torch.manual_seed(1)
    x, weight, bias = torch.randn(1, 64, 40, 30), torch.randn(32, 64, 1, 1), torch.randn(32)
    torch.testing.assert_close(
        conv1x1(x, weight, bias), F.conv2d(x, weight, bias), atol=1e-4, rtol=1e-5
    )
