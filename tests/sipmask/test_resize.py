"""Resizing inside boxes, against interpolating whole maps."""

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrefine.sipmask.assembly import region_maps
from mmrefine.sipmask.cells import split_boxes
from mmrefine.sipmask.resize import resize_regions, sample_axis


@settings(max_examples=60)
@given(
    st.lists(st.lists(st.floats(-4, 18, width=32), min_size=4, max_size=4), max_size=3),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(0, 10**6),
)
def test_crops_equal_the_interpolated_map(boxes, height, width, seed):
    size = (9, 13)
    regions = split_boxes(torch.tensor(boxes).view(-1, 4), size, 2)
    values = torch.rand(sum(regions.areas), generator=torch.Generator().manual_seed(seed))
    axes = [
        sample_axis(cells, pixels, cells / pixels, values.device)
        for cells, pixels in zip(size, (height, width))
    ]
    crops, offsets = resize_regions(values, regions, *axes)
    maps = region_maps(values, regions, size)
    expected = F.interpolate(maps[:, None], (height, width), mode='bilinear', align_corners=False)
    for whole, crop, (x, y) in zip(expected[:, 0], crops, offsets):
        rebuilt = torch.zeros(height, width)
        rebuilt[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
        torch.testing.assert_close(rebuilt, whole, atol=2e-6, rtol=0)


def test_a_box_outside_the_map_has_no_pixels():
    regions = split_boxes(torch.tensor([[50.0, 50, 60, 60]]), (9, 13), 2)
    axes = [sample_axis(n, 2 * n, 0.5, torch.device('cpu')) for n in (9, 13)]
    crops, _ = resize_regions(torch.zeros(0), regions, *axes)
    assert crops[0].numel() == 0


def test_output_may_be_cut_before_the_end_of_the_map():
    regions = split_boxes(torch.tensor([[0.0, 0, 13, 9]]), (9, 13), 2)
    axes = [sample_axis(n, n, 0.5, torch.device('cpu')) for n in (9, 13)]
    crops, offsets = resize_regions(torch.ones(117), regions, *axes)
    assert crops[0].shape == (9, 13)
    assert offsets == [(0, 0)]
    assert (crops[0] == 1).all()
