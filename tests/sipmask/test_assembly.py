"""Mask values inside boxes, against the dense form of the original."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrefine.sipmask.assembly import region_crops, region_logits, region_maps, region_values
from mmrefine.sipmask.cells import split_boxes
from mmrefine.sipmask.crop_split import crop_split, crop_split_gt

SIZE = (11, 14)
BOXES = torch.tensor([
    [1.0, 2, 9, 10], [-3.5, 4.2, 5.1, 30], [12.9, 0, 13, 11], [20, 3, 30, 9], [5, 5, 5, 9],
    [8, 8, 3, 2], [float('nan'), 1, 5, 6], [2.25, 3.75, 2.5, 4.5], [-9, -9, 99, 99],
])  # fmt: skip


def dense(basis: torch.Tensor, coeffs: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """All k * k products over the whole map, then the crop operator: Tensor[H, W, N]."""
    return crop_split(torch.einsum('chw,nqc->qhwn', basis, coeffs), boxes)


@pytest.mark.parametrize('by_index', [False, True])
@pytest.mark.parametrize('k', [1, 2, 3])
def test_values_and_gradients_equal_the_dense_form(k, by_index):
    basis = torch.randn(5, *SIZE, requires_grad=True)
    coeffs = torch.randn(len(BOXES), k * k, 5, requires_grad=True)
    regions = split_boxes(BOXES, SIZE, k)
    values = region_logits(basis, coeffs, regions, by_index)
    maps = region_maps(values, regions, SIZE).permute(1, 2, 0)
    expected = dense(basis, coeffs, BOXES)
    torch.testing.assert_close(maps, expected)
    weight = torch.randn_like(expected)
    found = torch.autograd.grad((maps * weight).sum(), (basis, coeffs))
    reference = torch.autograd.grad((expected * weight).sum(), (basis, coeffs))
    torch.testing.assert_close(found, reference, atol=1e-4, rtol=1e-5)


@settings(max_examples=50)
@given(st.lists(st.lists(st.floats(-5, 18, width=32), min_size=4, max_size=4), max_size=3))
def test_both_ways_of_computing_agree_on_any_boxes(boxes):
    boxes = torch.tensor(boxes).view(-1, 4)
    basis, coeffs = torch.randn(3, *SIZE), torch.randn(len(boxes), 4, 3)
    regions = split_boxes(boxes, SIZE, 2)
    sliced = region_logits(basis, coeffs, regions, by_index=False)
    indexed = region_logits(basis, coeffs, regions, by_index=True)
    torch.testing.assert_close(sliced, indexed)
    maps = region_maps(sliced, regions, SIZE).permute(1, 2, 0)
    torch.testing.assert_close(maps, dense(basis, coeffs, boxes))


@pytest.mark.parametrize('by_index', [False, True])
def test_no_boxes_keep_the_graph(by_index):
    basis = torch.randn(3, *SIZE, requires_grad=True)
    coeffs = torch.zeros(0, 4, 3, requires_grad=True)
    values = region_logits(basis, coeffs, split_boxes(torch.zeros(0, 4), SIZE, 2), by_index)
    values.sum().backward()
    assert values.shape == (0,)
    assert basis.grad.eq(0).all()


def test_chunks_do_not_change_the_result(monkeypatch):
    from mmrefine.sipmask.assembly import _IndexedLogits

    basis = torch.randn(3, *SIZE, requires_grad=True)
    coeffs = torch.randn(len(BOXES), 4, 3, requires_grad=True)
    regions = split_boxes(BOXES, SIZE, 2)
    results = []
    for chunk in (1 << 20, 7):
        monkeypatch.setattr(_IndexedLogits, 'CHUNK', chunk)
        values = region_logits(basis, coeffs, regions, by_index=True)
        results.append((values, *torch.autograd.grad(values.sin().sum(), (basis, coeffs))))
    torch.testing.assert_close(*results)


def test_half_precision_input_is_computed_in_single():
    basis, coeffs = torch.randn(3, *SIZE).half(), torch.randn(len(BOXES), 4, 3).half()
    values = region_logits(basis, coeffs, split_boxes(BOXES, SIZE, 2))
    exact = region_logits(basis.float(), coeffs.float(), split_boxes(BOXES, SIZE, 2))
    assert values.dtype == torch.float32
    assert torch.equal(values, exact)


def test_targets_are_cut_from_each_regions_own_map():
    maps = torch.rand(3, *SIZE) > 0.5
    owners = torch.arange(len(BOXES)) % 3
    regions = split_boxes(BOXES, SIZE, 2)
    cut = region_values(maps, owners, regions)
    expected = crop_split_gt(maps[owners].permute(1, 2, 0).float(), BOXES)
    assert torch.equal(region_maps(cut.float(), regions, SIZE).permute(1, 2, 0), expected)
    assert [tuple(crop.shape) for crop in region_crops(cut, regions)] == regions.shapes


def test_nothing_of_full_image_size_is_made_per_object():
    # 50 boxes of 4 x 4 pixels on a large map: a single whole map for each would hold 12.8 M values.
    size, count = (400, 640), 50
    boxes = torch.rand(count, 2) * 300
    boxes = torch.cat((boxes, boxes + 4), dim=1)
    basis = torch.randn(4, *size, requires_grad=True)
    coeffs = torch.randn(count, 4, 4, requires_grad=True)
    regions = split_boxes(boxes, size, 2)
    with torch.profiler.profile(
        profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]
    ) as run:
        region_logits(basis, coeffs, regions).sum().backward()
    largest = max(event.self_cpu_memory_usage for event in run.events())
    assert largest <= basis.numel() * 4
