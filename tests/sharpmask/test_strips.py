"""Running the trunk strip by strip."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_sharpmask import build, image, sample
from torch import nn
from torch.nn import functional as F

from mmrefine.sharpmask.pyramid import level_image
from mmrefine.sharpmask.refine_head import ConvStack
from mmrefine.sharpmask.strips import StripPlan, can_fold, fold
from mmrefine.sharpmask.trunk import MirrorPadConv2d, StemResNet

PADDING = {
    'symmetric': dict(type='MirrorPadConv2d'),
    'reflect': dict(type='MirrorPadConv2d', pad_mode='reflect', wide_pad_mode='symmetric'),
    'zeros': None,
}


def trunk(depth=18, padding='symmetric', **options):
    """A narrow trunk in evaluation mode whose normalisations are not the identity."""
    torch.manual_seed(0)
    network = StemResNet(depth, base_channels=4, conv_cfg=PADDING[padding], **options)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.3, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.3)
    return network.eval()


def branches(network, conv_cfg):
    """One pair of convolutions on every map of the trunk."""
    widths = [4, *(m * (4 if network.depth == 50 else 1) for m in (4, 8, 16))]
    stacks = nn.ModuleList(ConvStack((w, 3, 2), conv_cfg) for w in widths)
    chains = [(i, [(s[0], True), (s[1], False)]) for i, s in enumerate(stacks)]
    return stacks, chains


@torch.no_grad()
def check(network, padding, height, width, step):
    stacks, chains = branches(network, PADDING[padding])
    picture = torch.randn(1, 3, height, width)
    plan = StripPlan(network, chains)
    maps = plan.run(lambda a, b: picture[:, :, a:b], height, step)
    for ours, stack, feature in zip(maps, stacks, network(picture), strict=True):
        torch.testing.assert_close(ours, stack(feature), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('padding', PADDING)
@pytest.mark.parametrize('depth', [18, 50])
@pytest.mark.parametrize('size', [(200, 90), (97, 61)])
def test_strips_change_no_map(depth, padding, size):
    check(trunk(depth, padding), padding, *size, 32)


@settings(max_examples=15)
@given(st.integers(33, 150), st.integers(33, 80), st.integers(1, 60))
def test_any_height_and_strip_will_do(height, width, step):
    check(trunk(), 'symmetric', height, width, step)


@pytest.mark.parametrize('style', ['pytorch', 'caffe'])
def test_the_stride_may_sit_on_either_convolution(style):
    check(trunk(50, style=style), 'symmetric', 130, 70, 16)


def test_every_row_is_asked_for_once():
    asked = []

    def rows(begin, end):
        asked.extend(range(begin, end))
        return torch.zeros(1, 3, end - begin, 40)

    with torch.no_grad():
        StripPlan(trunk(), []).run(rows, 101, 16)
    assert asked == list(range(101))


@pytest.mark.parametrize('channels', [5, 6])
@pytest.mark.parametrize('stride', [1, 2])
def test_a_pointwise_convolution_is_the_plain_one(channels, stride):
    conv = nn.Conv2d(channels, 7, 1, stride)
    x = torch.randn(1, channels, 9, 11)
    with torch.no_grad():
        torch.testing.assert_close(fold(conv, None, True)(x), F.relu(conv(x)))


def test_folding_states_where_it_does_not_hold():
    assert can_fold(trunk(), [nn.Conv2d(2, 2, 3, padding=1), MirrorPadConv2d(2, 2, 3, padding=1)])
    assert not can_fold(trunk(norm_eval=False).train())
    assert not can_fold(trunk(deep_stem=True))
    assert not can_fold(trunk(norm_cfg=dict(type='GN', num_groups=2)))
    assert not can_fold(trunk(dilations=(1, 1, 2), strides=(1, 2, 1)))
    assert not can_fold(trunk(), [nn.Conv2d(2, 2, 3, groups=2)])
    assert not can_fold(nn.Sequential(nn.Conv2d(3, 2, 3)))


@pytest.mark.parametrize('refined', [False, True])
def test_a_trunk_that_cannot_be_folded_proposes_all_the_same(refined):
    model, picture = build(refined), image(90, 130)
    plain = model.predict(picture, [sample(90, 130)])[0].pred_instances
    model.backbone.register_module('extra', nn.Dropout2d(0.0))
    assert not can_fold(model.backbone)
    other = model.predict(picture, [sample(90, 130)])[0].pred_instances
    torch.testing.assert_close(plain.scores, other.scores, atol=1e-5, rtol=1e-5)
    assert (plain.masks != other.masks).float().mean() < 1e-4


@settings(max_examples=30)
@given(st.integers(1, 40), st.integers(1, 60), st.integers(0, 9), st.data())
def test_rows_of_a_level_are_those_of_the_whole_level(source, target, margin, data):
    total = target + 2 * margin
    begin = data.draw(st.integers(0, total - 1))
    end = data.draw(st.integers(begin + 1, total))
    picture = torch.randn(1, 3, source, 13, generator=torch.Generator().manual_seed(source))
    size, fill = (target, 17), torch.tensor([1.0, 2.0, 3.0])
    whole = level_image(picture, size, margin, fill)
    part = level_image(picture, size, margin, fill, (begin, end))
    torch.testing.assert_close(part, whole[:, :, begin:end], atol=1e-5, rtol=1e-5)
