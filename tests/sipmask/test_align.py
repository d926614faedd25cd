"""Feature alignment."""

import pytest
import torch
from mmcv.ops import DeformConv2d

from mmrefine.sipmask.align import FeatureAlign, deform_conv


@pytest.mark.parametrize('size', [(5, 7), (2, 3), (1, 1), (3, 2)])
def test_values_and_gradients_equal_mmcv(size):
    layer = DeformConv2d(8, 8, 3, padding=1, deform_groups=4)
    features = torch.randn(2, 8, *size, requires_grad=True)
    offset = torch.randn(2, 72, *size, requires_grad=True)
    inputs = features, offset, layer.weight
    ours, reference = deform_conv(*inputs), layer(features, offset)
    torch.testing.assert_close(ours, reference)
    weight = torch.randn_like(ours)
    found = torch.autograd.grad((ours * weight).sum(), inputs)
    expected = torch.autograd.grad((reference * weight).sum(), inputs)
    torch.testing.assert_close(found, expected)


def test_without_offsets_it_is_a_plain_convolution():
    layer = FeatureAlign(32, bias=True, norm_cfg=None)
    layer.init_weights()
    with torch.no_grad():
        layer.adaption_bias.normal_()
    features = torch.randn(1, 32, 6, 5)
    expected = torch.nn.functional.conv2d(
        features, layer.conv_adaption.weight, layer.adaption_bias, padding=1
    )
    torch.testing.assert_close(layer(features, torch.randn(1, 4, 6, 5)), expected.relu())


@pytest.mark.parametrize('images', [0, 33])
def test_any_number_of_images_passes(images):
    # mmcv alone refuses 33: not a multiple of its step of 32.
    layer = FeatureAlign(32)
    assert layer(torch.randn(images, 32, 4, 4), torch.zeros(images, 4, 4, 4)).shape[0] == images


def test_boxes_steer_but_do_not_learn_from_it():
    layer = FeatureAlign(32)
    ltrb = torch.rand(1, 4, 5, 5, requires_grad=True)
    layer(torch.randn(1, 32, 5, 5), ltrb).sin().sum().backward()
    assert ltrb.grad is None
    assert layer.conv_offset.weight.grad.abs().sum() > 0


def test_autocast_leaves_it_in_single_precision():
    layer = FeatureAlign(32)
    features, ltrb = torch.randn(1, 32, 5, 5), torch.rand(1, 4, 5, 5) * 4
    with torch.autocast('cpu', dtype=torch.bfloat16):
        mixed = layer(features, ltrb)
    assert torch.equal(mixed, layer(features, ltrb))


def test_gradients_equal_mmcv_where_the_slope_jumps():
    # Untrained offsets are 0: every position is a cell centre, or exactly one cell outside.
    layer = DeformConv2d(8, 8, 3, padding=1, deform_groups=4)
    features = torch.randn(1, 8, 7, 11, requires_grad=True)
    offset = torch.zeros(1, 72, 7, 11, requires_grad=True)
    inputs = features, offset, layer.weight
    found = torch.autograd.grad(deform_conv(*inputs).sin().sum(), inputs)
    expected = torch.autograd.grad(layer(features, offset).sin().sum(), inputs)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
