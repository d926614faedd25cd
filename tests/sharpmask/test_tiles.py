"""Running the trunk tile by tile."""

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_sharpmask import build, image, sample
from torch import nn

from mmrefine.sharpmask.trunk import StemResNet, receptive_radius, run_in_tiles, tiles

PADDING = {
    'symmetric': dict(type='MirrorPadConv2d'),
    'reflect': dict(type='MirrorPadConv2d', pad_mode='reflect', wide_pad_mode='symmetric'),
    'zeros': None,
}
STRIDES = (2, 4, 8, 16)


def trunk(depth=18, padding='symmetric', **options):
    """A narrow trunk in evaluation mode whose normalisations are not the identity."""
    torch.manual_seed(0)
    network = StemResNet(depth, base_channels=4, conv_cfg=PADDING[padding], **options)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.3, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return network.eval()


@torch.no_grad()
def check(network, height, width, limit):
    picture, asked = torch.randn(1, 3, height, width), []

    def part(y1, x1, y2, x2):
        asked.append((y2 - y1) * (x2 - x1))
        return picture[:, :, y1:y2, x1:x2]

    halo = -(-receptive_radius(network) // 16) * 16
    maps = run_in_tiles(network, part, (height, width), STRIDES, halo, limit)
    for ours, plain in zip(maps, network(picture), strict=True):
        torch.testing.assert_close(ours, plain, atol=1e-4, rtol=1e-4)
    return asked


@pytest.mark.parametrize('padding', PADDING)
@pytest.mark.parametrize('options', [
    dict(depth=18), dict(depth=50), dict(depth=50, style='caffe'), dict(depth=18, deep_stem=True),
    dict(depth=18, dilations=(1, 1, 2)),
])  # fmt: skip
def test_tiles_change_no_map(options, padding):
    assert len(check(trunk(padding=padding, **options), 601, 461, 1)) > 2


@settings(max_examples=10)
@given(st.integers(33, 500), st.integers(33, 300), st.integers(1, 200_000))
def test_any_size_and_limit_will_do(height, width, limit):
    check(trunk(), height, width, limit)


def test_the_radius_is_what_a_cell_sees():
    network = trunk()
    picture = torch.randn(1, 3, 401, 33, requires_grad=True)
    network(picture)[-1][0, 0, 12].sum().backward()
    rows = picture.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    radius = receptive_radius(network)
    assert (12 * 16 - rows.min(), rows.max() - 12 * 16) == (radius, radius)


@given(st.integers(1, 9000), st.integers(1, 9000), st.sampled_from([0, 96, 192]))
def test_tiles_cover_the_image_once_and_stay_below_the_limit(height, width, halo):
    found = list(tiles((height, width), halo, 1 << 21))
    assert sum((b - a) * (d - c) for (a, b), (c, d) in found) == height * width
    assert all(a % 16 == c % 16 == 0 for (a, _), (c, _) in found)
    for spans in found:
        sides = [min(b + halo, n) - max(a - halo, 0) for (a, b), n in zip(spans, (height, width))]
        assert sides[0] * sides[1] <= 1 << 21


def test_an_image_below_the_limit_is_one_tile():
    assert list(tiles((839, 1065), 192, 1 << 20)) == [((0, 839), (0, 1065))]


def test_trunks_that_see_the_whole_image_have_no_radius():
    assert receptive_radius(trunk(norm_eval=False).train()) is None
    assert receptive_radius(trunk(norm_cfg=dict(type='GN', num_groups=2))) is None
    plugin = dict(cfg=dict(type='ContextBlock', ratio=1 / 4), position='after_conv3')
    assert receptive_radius(trunk(50, plugins=[plugin])) is None
    assert receptive_radius(nn.Sequential(nn.Conv2d(3, 2, 3))) is None


@pytest.mark.parametrize('refined', [False, True])
def test_a_trunk_that_sees_the_whole_image_proposes_all_the_same(refined):
    model, picture = build(refined, strip=1, log2_scales=(1.0,)), image(150, 210)
    plain = model.predict(picture, [sample(150, 210)])[0].pred_instances
    model.backbone.register_module('extra', nn.Dropout2d(0.0))
    assert model.level_radius() is None
    other = model.predict(picture, [sample(150, 210)])[0].pred_instances
    torch.testing.assert_close(plain.scores, other.scores, atol=1e-5, rtol=1e-5)
    assert (plain.masks != other.masks).float().mean() < 1e-4


PHOTO = """
import resource, sys, torch
from replay.sharpmask_weights import build_model
torch.set_num_threads(1)
model = build_model('lua', 7, sys.argv[1] == 'refined', test_cfg=dict(mask_format='rle'))
model.propose(torch.zeros(1, 3, 64, 64))
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
generator = torch.Generator().manual_seed(0)
image = torch.nn.functional.interpolate(
    torch.randn(1, 3, 30, 40, generator=generator), (3000, 4000), mode='bicubic'
)
assert len(model.propose(image).masks) == 500
print((peak() - before) // 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize('masks', ['coarse', 'refined'])
def test_a_photo_of_twelve_megapixels_stays_below_a_gigabyte_and_a_half(root, masks):
    paths = os.pathsep.join(map(str, (root, root / 'tests')))
    run = subprocess.run(
        [sys.executable, '-c', PHOTO, masks], env=os.environ | dict(PYTHONPATH=paths),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert int(run.stdout.split()[-1]) < 1536, run.stdout
