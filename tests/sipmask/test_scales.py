"""Scales and sizes by the rules of the originals."""

import pytest

from mmrefine.sipmask.scales import image_scale, resized_side

META = {'ori_shape': (427, 640), 'img_shape': (800, 1199), 'scale_factor': (1.873, 1.874)}


def test_limits_give_the_factor_before_the_size_is_rounded():
    assert image_scale(META, 'floor', (1333, 800)) == (800 / 427, 800 / 427)
    tall = META | {'ori_shape': (1000, 200)}
    assert image_scale(tall, 'floor', (1333, 800)) == (1.333, 1.333)


def test_the_benchmark_takes_the_smaller_axis():
    assert image_scale(META, 'floor_min') == (1199 / 640, 1199 / 640)
    assert image_scale(META | {'img_shape': (799, 1300)}, 'floor_min') == (799 / 427,) * 2


def test_the_other_rules_take_the_stored_factors():
    assert image_scale(META) == (1.873, 1.874)
    assert image_scale({'ori_shape': (5, 5), 'img_shape': (5, 5)}) == (1.0, 1.0)


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


def test_unknown_rules_are_refused_by_name():
    with pytest.raises(ValueError, match="unknown scale rule 'ceil'"):
        image_scale(META, 'ceil')
