"""The mask kernel against the formula written out, and the regions it is limited to."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmrefine.embedmask.kernel import box_regions, haloed_boxes, mask_exponent, padded_boxes


def written_out(pixels: Tensor, embeds: Tensor, margins: Tensor) -> Tensor:
    """Sum over dimensions of margin times squared difference, by broadcasting."""
    difference = pixels[None] - embeds[:, :, None, None]
    return (margins[:, :, None, None] * difference.square()).sum(dim=1)


def sample(k: int, dims: int, margin_dims: int, size: tuple[int, int] = (6, 9)) -> list[Tensor]:
    pixels = torch.randn(dims, *size) + 5
    embeds = torch.randn(k, dims) + 5
    return [pixels, embeds, torch.rand(k, margin_dims) * 3]


@pytest.mark.parametrize(('dims', 'margin_dims'), [(16, 16), (8, 1), (1, 1)])
def test_matrix_product_equals_broadcast(dims, margin_dims):
    pixels, embeds, margins = sample(5, dims, margin_dims)
    ours = mask_exponent(pixels, embeds, margins)
    expected = written_out(*(x.double() for x in (pixels, embeds, margins)))
    torch.testing.assert_close(ours, expected.float(), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize('margin_dims', [1, 3])
def test_gradients_equal_those_of_the_broadcast(margin_dims):
    inputs = [x.requires_grad_() for x in sample(4, 3, margin_dims)]
    weight = torch.randn(4, 6, 9)
    ours = torch.autograd.grad((mask_exponent(*inputs) * weight).sum(), inputs)
    expected = torch.autograd.grad((written_out(*inputs) * weight).sum(), inputs)
    for mine, theirs in zip(ours, expected):
        torch.testing.assert_close(mine, theirs, atol=1e-3, rtol=1e-4)


def test_image_coordinates_keep_their_precision_in_full_size_maps():
    ys, xs = torch.meshgrid(torch.arange(200.0), torch.arange(336.0), indexing='ij')
    pixels = torch.stack((xs * 4 / 100, ys * 4 / 100))
    embeds = pixels[:, 120, 300][None]
    exponent = mask_exponent(pixels, embeds, torch.full((1, 2), 20.0))
    expected = written_out(*(x.double() for x in (pixels, embeds, torch.full((1, 2), 20.0))))
    near = expected < 20
    assert (exponent - expected)[near].abs().max() < 5e-4


def test_zero_proposals_and_zero_pixels_give_empty_maps():
    pixels, embeds, margins = sample(3, 4, 4)
    assert mask_exponent(pixels, embeds[:0], margins[:0]).shape == (0, 6, 9)
    assert mask_exponent(pixels[:, :0], embeds, margins).shape == (3, 0, 9)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_autocast_does_not_reach_the_kernel(dtype):
    pixels, embeds, margins = sample(5, 16, 16)
    with torch.autocast('cpu', dtype=dtype):
        ours = mask_exponent(pixels, embeds, margins)
    assert ours.dtype == torch.float32
    assert torch.equal(ours, mask_exponent(pixels, embeds, margins))


def test_dimensions_that_do_not_fit_are_refused_with_their_numbers():
    pixels, embeds, margins = sample(2, 4, 4)
    with pytest.raises(ValueError, match='4 pixel dimensions, 3 proposal dimensions and 4'):
        mask_exponent(pixels, embeds[:, :3], margins)
    with pytest.raises(ValueError, match='2\\s*margins'):
        mask_exponent(pixels, embeds, margins[:, :2])


corner = st.floats(-5, 20, allow_nan=False, width=32)


@settings(max_examples=50)
@given(st.lists(st.tuples(corner, corner, corner, corner), max_size=4))
def test_regions_hold_exactly_the_cells_between_the_sides(boxes):
    region = box_regions(torch.tensor(boxes, dtype=torch.float32).view(-1, 4), (7, 11))
    assert region.shape == (len(boxes), 7, 11)
    for (x1, y1, x2, y2), mask in zip(boxes, region.tolist()):
        for row in range(7):
            for column in range(11):
                assert mask[row][column] == (x1 <= column < x2 and y1 <= row < y2)


@settings(max_examples=50)
@given(st.lists(st.tuples(corner, corner, corner, corner), min_size=1, max_size=4))
def test_grown_boxes_contain_the_part_of_the_box_on_the_map(boxes):
    tensor = torch.tensor(boxes, dtype=torch.float32)
    tensor = torch.cat(
        (tensor[:, :2].minimum(tensor[:, 2:]), tensor[:, :2].maximum(tensor[:, 2:])), 1
    )
    plain = box_regions(tensor, (7, 11))
    assert (box_regions(haloed_boxes(tensor, 1, truncate=False), (7, 11)) >= plain).all()
    assert (box_regions(haloed_boxes(tensor, 2, truncate=True), (7, 11)) >= plain).all()


def test_padding_adds_a_tenth_and_a_cell_but_never_the_last_row_or_column():
    boxes = torch.tensor([[10.0, 5.0, 20.0, 8.0], [0.0, 0.0, 30.0, 30.0]])
    expected = torch.tensor([[8.0, 3.7, 22.0, 9.3], [0.0, 0.0, 29.0, 19.0]])
    torch.testing.assert_close(padded_boxes(boxes, (20, 30), 0.1), expected)
