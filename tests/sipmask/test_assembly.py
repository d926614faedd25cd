"""Boxes on maps, their cells, and mask values inside them, against the dense form."""

from itertools import product

import numpy as np
import pytest
import torch
from benchmark.crop_split import crop_split, crop_split_gt
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrefine.sipmask import assembly
from mmrefine.sipmask.assembly import cell_index, pixel_logits, pixel_values, split_boxes

EDGE = st.one_of(st.integers(-6, 20).map(float), st.floats(-6, 20, width=32), st.just(float('nan')))
BOXES = st.lists(st.lists(EDGE, min_size=4, max_size=4), max_size=4)


def by_hand(low: float, high: float, pixel: int, k: int) -> int:
    """The kernels' arithmetic: the margin in double, everything else in single precision."""
    low, high = np.float32(low), np.float32(high)
    if not (pixel >= low and pixel < high):
        return -1
    cell = np.float32((np.float64(np.float32(high - low)) + 0.1) / k)
    return int(np.float32(np.float32(pixel) - low) / cell)


@given(BOXES, st.integers(1, 5), st.integers(1, 14))
def test_cells_follow_the_kernels_arithmetic(boxes, k, length):
    tensor = torch.tensor(boxes, dtype=torch.float32).view(-1, 4)
    found = cell_index(tensor[:, 0], tensor[:, 2], length, k)
    expected = [[by_hand(b[0], b[2], p, k) for p in range(length)] for b in boxes]
    assert found.tolist() == expected
    assert (found < k).all()


@given(BOXES, st.integers(1, 4), st.integers(1, 12), st.integers(1, 14))
def test_pixels_are_listed_box_by_box_and_row_by_row(boxes, k, height, width):
    pixels = split_boxes(torch.tensor(boxes).view(-1, 4), (height, width), k)
    expected = []
    for n, (x1, y1, x2, y2) in enumerate(boxes):
        for y, x in product(range(height), range(width)):
            row, column = by_hand(y1, y2, y, k), by_hand(x1, x2, x, k)
            if row >= 0 and column >= 0:
                expected.append((n, y, x, row * k + column))
    found = (pixels.box, pixels.row, pixels.column, pixels.cell)
    assert list(zip(*(field.tolist() for field in found))) == expected
    for n, ((x, y), (h, w)) in enumerate(zip(pixels.corners, pixels.shapes)):
        own = [(row, column) for box, row, column, _ in expected if box == n]
        assert own == list(product(range(y, y + h), range(x, x + w)))


def test_autocast_leaves_the_products_in_single_precision():
    basis = torch.randn(32, 6, 7)
    coeffs = torch.randn(1, 4, 32, requires_grad=True)
    pixels = split_boxes(torch.tensor([[0.0, 0.0, 7.0, 6.0]]), (6, 7), 2)
    expected = pixel_logits(basis, coeffs, pixels)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = pixel_logits(basis, coeffs, pixels)
    assert torch.equal(found, expected)


def test_the_middle_pixel_goes_left_and_seams_ignore_the_map_border():
    assert cell_index(torch.tensor([0.0]), torch.tensor([8.0]), 9, 2).tolist() == [
        [0, 0, 0, 0, 0, 1, 1, 1, -1]
    ]
    # The box reaches from -8 to 8: its right half begins at 0.05, so only pixel 0 is left of it.
    assert cell_index(torch.tensor([-8.0]), torch.tensor([8.0]), 5, 2).tolist() == [[0, 1, 1, 1, 1]]


SIZE = (11, 14)
FIXED = torch.tensor([
    [1.0, 2, 9, 10], [-3.5, 4.2, 5.1, 30], [12.9, 0, 13, 11], [20, 3, 30, 9], [5, 5, 5, 9],
    [8, 8, 3, 2], [float('nan'), 1, 5, 6], [2.25, 3.75, 2.5, 4.5], [-9, -9, 99, 99],
])  # fmt: skip


def dense(basis: torch.Tensor, coeffs: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """All k * k products over the whole map, then the crop operator: Tensor[H, W, N]."""
    return crop_split(torch.einsum('chw,nqc->qhwn', basis, coeffs), boxes)


@pytest.mark.parametrize('k', [1, 2, 3])
def test_values_and_gradients_equal_the_dense_form(k):
    basis = torch.randn(5, *SIZE, requires_grad=True)
    coeffs = torch.randn(len(FIXED), k * k, 5, requires_grad=True)
    pixels = split_boxes(FIXED, SIZE, k)
    maps = pixels.maps(pixel_logits(basis, coeffs, pixels), SIZE).permute(1, 2, 0)
    expected = dense(basis, coeffs, FIXED)
    torch.testing.assert_close(maps, expected)
    weight = torch.randn_like(expected)
    found = torch.autograd.grad((maps * weight).sum(), (basis, coeffs))
    reference = torch.autograd.grad((expected * weight).sum(), (basis, coeffs))
    torch.testing.assert_close(found, reference, atol=1e-4, rtol=1e-5)


@settings(max_examples=50)
@given(st.lists(st.lists(st.floats(-5, 18, width=32), min_size=4, max_size=4), max_size=3))
def test_values_equal_the_dense_form_for_any_boxes(boxes):
    boxes = torch.tensor(boxes).view(-1, 4)
    basis, coeffs = torch.randn(3, *SIZE), torch.randn(len(boxes), 4, 3)
    pixels = split_boxes(boxes, SIZE, 2)
    maps = pixels.maps(pixel_logits(basis, coeffs, pixels), SIZE).permute(1, 2, 0)
    torch.testing.assert_close(maps, dense(basis, coeffs, boxes))


def test_no_boxes_keep_the_graph():
    basis = torch.randn(3, *SIZE, requires_grad=True)
    coeffs = torch.zeros(0, 4, 3, requires_grad=True)
    values = pixel_logits(basis, coeffs, split_boxes(torch.zeros(0, 4), SIZE, 2))
    values.sum().backward()
    assert values.shape == (0,)
    assert basis.grad.eq(0).all()


def test_chunks_do_not_change_the_result(monkeypatch):
    basis = torch.randn(3, *SIZE, requires_grad=True)
    coeffs = torch.randn(len(FIXED), 4, 3, requires_grad=True)
    pixels = split_boxes(FIXED, SIZE, 2)
    results = []
    for chunk in (1 << 20, 7):
        monkeypatch.setattr(assembly, 'CHUNK', chunk)
        values = pixel_logits(basis, coeffs, pixels)
        results.append((values, *torch.autograd.grad(values.sin().sum(), (basis, coeffs))))
    torch.testing.assert_close(*results)


def test_half_precision_input_is_computed_in_single():
    basis, coeffs = torch.randn(3, *SIZE).half(), torch.randn(len(FIXED), 4, 3).half()
    values = pixel_logits(basis, coeffs, split_boxes(FIXED, SIZE, 2))
    exact = pixel_logits(basis.float(), coeffs.float(), split_boxes(FIXED, SIZE, 2))
    assert values.dtype == torch.float32
    assert torch.equal(values, exact)


def test_targets_are_read_from_the_map_of_each_box():
    maps = torch.rand(3, *SIZE) > 0.5
    owners = torch.arange(len(FIXED)) % 3
    pixels = split_boxes(FIXED, SIZE, 2)
    cut = pixel_values(maps, owners, pixels)
    expected = crop_split_gt(maps[owners].permute(1, 2, 0).float(), FIXED)
    assert torch.equal(pixels.maps(cut.float(), SIZE).permute(1, 2, 0), expected)
    assert [tuple(crop.shape) for crop in pixels.crops(cut)] == pixels.shapes


def test_nothing_of_full_image_size_is_made_per_object():
    # 50 boxes of 4 x 4 pixels on a large map: a single whole map for each would hold 12.8 M values.
    size, count = (400, 640), 50
    boxes = torch.rand(count, 2) * 300
    boxes = torch.cat((boxes, boxes + 4), dim=1)
    basis = torch.randn(4, *size, requires_grad=True)
    coeffs = torch.randn(count, 4, 4, requires_grad=True)
    pixels = split_boxes(boxes, size, 2)
    with torch.profiler.profile(
        profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]
    ) as run:
        pixel_logits(basis, coeffs, pixels).sum().backward()
    largest = max(event.self_cpu_memory_usage for event in run.events())
    assert largest <= basis.numel() * 4
