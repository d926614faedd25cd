"""Point grids of feature pyramids."""

import pytest
import torch

from mmrefine.fcos import flatten_levels, make_grid


def test_points_lie_at_stride_times_index_plus_half_a_stride():
    grid = make_grid([(2, 3), (1, 2)], (8, 16))
    expected = [[4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12], [8, 8], [24, 8]]
    assert grid.points.tolist() == expected
    assert grid.strides.tolist() == [8] * 6 + [16] * 2
    assert grid.levels.tolist() == [0] * 6 + [1] * 2
    assert grid.counts == (6, 2)


def test_flattened_maps_follow_the_order_of_the_points():
    sizes = [(3, 4), (2, 2), (0, 5)]
    grid = make_grid(sizes, (8, 16, 32))
    maps = [
        torch.stack((points[:, 0].view(size), points[:, 1].view(size)))[None]
        for points, size in zip(grid.points.split(grid.counts), sizes)
    ]
    assert torch.equal(flatten_levels(maps)[0], grid.points)


def test_a_level_without_stride_is_refused():
    with pytest.raises(ValueError, match='2 feature levels but 1 strides'):
        make_grid([(2, 2), (1, 1)], (8,))
