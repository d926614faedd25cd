"""Mirror padding and the trunk with its stem."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.cnn import build_conv_layer
from mmdet.models.backbones import ResNet

from mmrefine.sharpmask.trunk import MirrorPadConv2d, StemResNet, mirror_pad


@settings(max_examples=60)
@given(
    st.integers(1, 7),
    st.integers(1, 7),
    st.integers(1, 4),
    st.sampled_from(['symmetric', 'reflect']),
)
def test_padding_equals_numpy_also_where_the_map_is_narrower_than_the_pad(height, width, pad, mode):
    x = np.arange(height * width, dtype=np.float32).reshape(1, 1, height, width)
    expected = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)), mode=mode)
    np.testing.assert_array_equal(mirror_pad(torch.from_numpy(x), pad, mode).numpy(), expected)


@pytest.mark.parametrize('pad', [1, 3])
def test_a_detached_ring_keeps_the_values_and_drops_its_gradient(pad):
    x = torch.randn(2, 3, 5, 6, requires_grad=True)
    whole, cut = mirror_pad(x, pad), mirror_pad(x, pad, grad=False)
    torch.testing.assert_close(whole, cut)
    (gradient,) = torch.autograd.grad(cut.sum(), x)
    torch.testing.assert_close(gradient, torch.ones_like(x))
    (gradient,) = torch.autograd.grad(whole.sum(), x)
    assert gradient.sum() == whole.numel()


def test_the_convolution_is_a_plain_one_on_the_padded_map():
    conv = build_conv_layer(dict(type='MirrorPadConv2d'), 3, 4, 7, stride=2, padding=3, bias=False)
    assert isinstance(conv, MirrorPadConv2d) and list(conv.state_dict()) == ['weight']
    x = torch.randn(1, 3, 9, 10)
    padded = torch.from_numpy(np.pad(x.numpy(), ((0, 0), (0, 0), (3, 3), (3, 3)), mode='symmetric'))
    torch.testing.assert_close(conv(x), torch.nn.functional.conv2d(padded, conv.weight, stride=2))


def test_wide_pads_may_have_their_own_mode():
    convs = [
        MirrorPadConv2d(1, 1, k, padding=k // 2, pad_mode='reflect', wide_pad_mode='symmetric')
        for k in (1, 3, 7)
    ]
    assert [c.mirror_mode for c in convs] == ['reflect', 'reflect', 'symmetric']
    assert 'symmetric' in repr(convs[2])


@pytest.mark.parametrize(
    'options', [dict(pad_mode='zeros'), dict(padding='same'), dict(padding=(1, 2))]
)
def test_bad_padding_is_refused(options):
    with pytest.raises(ValueError, match='pad'):
        MirrorPadConv2d(1, 1, 3, **options)


def test_the_stem_comes_first_and_the_stages_are_stock():
    ours = StemResNet(18, base_channels=8)
    stock = ResNet(
        18, base_channels=8, num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1),
        out_indices=(0, 1, 2),
    )  # fmt: skip
    stock.load_state_dict(ours.state_dict(), strict=True)
    stock.train(False)
    assert ours.eval() is ours
    x = torch.randn(1, 3, 65, 70)
    stem, *maps = ours(x)
    assert stem.shape == (1, 8, 33, 35) and stem.min() >= 0
    for a, b in zip(maps, stock(x)):
        torch.testing.assert_close(a, b)
