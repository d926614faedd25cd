"""Layer normalisation of maps against its definition."""

import pytest
import torch
from mmcv.cnn import build_norm_layer

from mmrefine.layers.layer_norm import LayerNorm2d


@pytest.mark.parametrize('shape', [(2, 5, 3, 4), (1, 1, 1, 1), (0, 5, 3, 3), (3, 8, 1, 7)])
def test_every_position_is_normalised_over_its_channels(shape: tuple[int, ...]) -> None:
    layer = LayerNorm2d(shape[1])
    with torch.no_grad():
        layer.weight.uniform_(0.5, 2)
        layer.bias.normal_()
    x = torch.randn(shape)
    mean, variance = x.mean(1, keepdim=True), x.var(1, keepdim=True, unbiased=False)
    expected = (x - mean) / (variance + 1e-5).sqrt()
    expected = expected * layer.weight.view(-1, 1, 1) + layer.bias.view(-1, 1, 1)
    torch.testing.assert_close(layer(x), expected)


def test_gradients_are_right() -> None:
    layer = LayerNorm2d(4).double()
    x = torch.randn(2, 4, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (x,))


def test_mmcv_builds_it_by_name() -> None:
    name, layer = build_norm_layer(dict(type='LayerNorm2d', eps=1e-3), 6)
    assert name == 'ln' and isinstance(layer, LayerNorm2d) and layer.eps == 1e-3
    assert build_norm_layer(dict(type='LayerNorm2d'), 6)[1].eps == LayerNorm2d(6).eps == 1e-5
