"""Scales by the rules of the originals, and masks of the image from values inside boxes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrefine.sipmask.assembly import split_boxes
from mmrefine.sipmask.postprocess import image_scale, output_boxes, output_masks, resized_side

META = {'ori_shape': (427, 640), 'img_shape': (800, 1199), 'scale_factor': (1.873, 1.874)}


def test_limits_give_the_factor_before_the_size_is_rounded():
    rule = {'scale': 'floor', 'scale_limits': (1333, 800)}
    assert image_scale(META, rule) == (800 / 427, 800 / 427)
    tall = META | {'ori_shape': (1000, 200), 'img_shape': (1333, 267)}
    assert image_scale(tall, rule) == (1.333, 1.333)


def test_limits_do_not_hold_for_images_resized_otherwise():
    view = META | {'img_shape': (600, 899), 'scale_factor': (1.405, 1.406)}
    rule = {'scale': 'floor', 'scale_limits': (1333, 800)}
    assert image_scale(view, rule) == (1.405, 1.406)
    assert image_scale(view, rule | {'scale': 'floor_min'}) == (899 / 640,) * 2


def test_the_benchmark_takes_the_smaller_axis():
    assert image_scale(META, {'scale': 'floor_min'}) == (1199 / 640, 1199 / 640)
    assert (
        image_scale(META | {'img_shape': (799, 1300)}, {'scale': 'floor_min'}) == (799 / 427,) * 2
    )


@pytest.mark.parametrize('container', [tuple, list, np.array, torch.tensor])
def test_the_other_rules_take_the_stored_factors(container):
    meta = {**META, 'scale_factor': container([1.5, 2.0]), 'ori_shape': (427, 640, 3)}
    assert image_scale(meta, {}) == (1.5, 2.0)
    box = torch.tensor([[3.0, 4.0, 6.0, 8.0]])
    assert output_boxes(box, meta, True, {}).tolist() == [[2.0, 2.0, 4.0, 4.0]]


def test_a_missing_factor_is_refused_by_name():
    with pytest.raises(ValueError, match='no scale_factor'):
        image_scale({'ori_shape': (5, 5), 'img_shape': (5, 5)}, {})


def test_single_precision_changes_some_sizes():
    differing = [
        original
        for original in range(200, 900)
        if resized_side(128, 256 / original) != resized_side(128, 256 / original, single=True)
    ]
    assert differing
    for original in differing:
        exact = 128 * (2 / (256 / original))
        assert abs(exact - round(exact)) < 1e-4


def test_mistaken_settings_are_refused_by_name():
    with pytest.raises(ValueError, match="unknown scale rule 'ceil'"):
        image_scale(META, {'scale': 'ceil'})
    pixels = split_boxes(torch.zeros(0, 4), (4, 4), 2)
    for threshold in (0, 1.5):
        with pytest.raises(ValueError, match=f'mask_thr is a probability .*, got {threshold}'):
            output_masks(torch.zeros(0), pixels, (4, 4), META, True, {'mask_thr': threshold})


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.floats(-4, 18, width=32), min_size=4, max_size=4), max_size=3),
    st.integers(1, 90),
    st.integers(1, 90),
    st.integers(0, 10**6),
)
def test_exact_masks_sample_the_map_where_the_pixel_lies(boxes, height, width, seed):
    size, network = (9, 13), (17, 25)
    meta = {'ori_shape': (height, width), 'img_shape': network}
    pixels = split_boxes(torch.tensor(boxes).view(-1, 4), size, 2)
    probs = torch.rand(len(pixels.box), generator=torch.Generator().manual_seed(seed))
    found = output_masks(probs, pixels, size, meta, True, {})
    maps = F.pad(pixels.maps(probs, size).double()[:, None], (1, 1, 1, 1), mode='replicate')
    # Pixel centres of the image in cells of the map with its border, scaled to [-1, 1].
    y, x = (
        ((torch.arange(n) + 0.5) * side / n / 2 + 1) * 2 / (cells + 2) - 1
        for n, side, cells in zip((height, width), network, size)
    )
    grid = torch.stack(torch.meshgrid(x, y, indexing='xy'), dim=-1).double()
    expected = F.grid_sample(maps, grid.expand(len(maps), -1, -1, -1), align_corners=False)[:, 0]
    sure = (expected - 0.4).abs() > 1e-5
    assert found.shape == expected.shape
    assert torch.equal(found[sure], (expected > 0.4)[sure])


def test_sides_are_cut_down_to_whole_pixels():
    assert [resized_side(side, 1.5) for side in (1, 2, 4)] == [1, 2, 5]
