"""The dense operators (their values: see test_parity)."""

import pytest
import torch
from benchmark.crop_split import crop_split, crop_split_gt


def test_no_boxes_give_an_empty_map_with_a_gradient():
    maps = torch.zeros(4, 5, 6, 0, requires_grad=True)
    output = crop_split(maps, torch.zeros(0, 4))
    output.sum().backward()
    assert output.shape == (5, 6, 0)
    assert maps.grad.shape == maps.shape


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_pick_the_same_pixels(dtype):
    maps, boxes = (
        torch.randn(9, 8, 7, 3),
        torch.tensor([[0.5, 1, 6, 7.2], [-3, 2, 4, 9], [2, 2, 2, 2]]),
    )
    expected = crop_split(maps.to(dtype).float(), boxes)
    output = crop_split(maps.to(dtype), boxes)
    assert output.dtype == dtype
    assert torch.equal(output.float(), expected)


def test_nan_outside_the_box_stays_outside():
    maps = torch.full((1, 4, 4, 1), float('nan'))
    maps[0, 1:3, 1:3] = 2.0
    output = crop_split(maps, torch.tensor([[1.0, 1, 3, 3]]))
    assert output.sum() == 8


def test_the_target_operator_crops_without_cells():
    masks = torch.ones(4, 5, 1)
    assert crop_split_gt(masks, torch.tensor([[1.0, 0, 3, 2]])).sum() == 4


def test_wrong_shapes_are_refused_with_the_numbers():
    with pytest.raises(ValueError, match=r'k \* k maps \(1, 4, 9, ...\), got 3'):
        crop_split(torch.zeros(3, 4, 4, 1), torch.zeros(1, 4))
    with pytest.raises(ValueError, match=r'shape \(2, 4\), got \(1, 4\)'):
        crop_split(torch.zeros(4, 4, 4, 2), torch.zeros(1, 4))
