"""Masks on grids of several sizes: same masks, same order."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrefine.masks import GridGroup, MaskGrids, roi_masks

SIZE = (40, 60)


def scene(count: int, sides: list[int], seed: int = 0) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Probabilities on one grid an instance, and boxes."""
    generator = torch.Generator().manual_seed(seed)
    masks = [torch.rand(side, side, generator=generator) for side in sides[:count]]
    corner = torch.rand(count, 2, generator=generator) * 30 - 3
    extent = 1 + torch.rand(count, 2, generator=generator) * 25
    return masks, torch.cat([corner, corner + extent], 1)


def grouped(masks: list[torch.Tensor]) -> MaskGrids:
    """Masks of equal size put together."""
    groups = []
    for side in sorted({len(mask) for mask in masks}):
        places = [i for i, mask in enumerate(masks) if len(mask) == side]
        groups.append(GridGroup(torch.tensor(places), torch.stack([masks[i] for i in places])))
    return MaskGrids(groups)


@settings(max_examples=25)
@given(st.lists(st.sampled_from([3, 7, 14]), max_size=8), st.integers(0, 99))
def test_order_and_masks_are_those_of_single_instances(sides: list[int], seed: int) -> None:
    masks, boxes = scene(len(sides), sides, seed)
    dense = roi_masks(grouped(masks), boxes, SIZE)
    coded = roi_masks(grouped(masks), boxes, SIZE, mask_format='rle')
    assert dense.shape == (len(sides), *SIZE) and dense.dtype == torch.bool
    assert len(coded) == len(sides)
    for index, mask in enumerate(masks):
        alone = mask[None], boxes[index : index + 1], SIZE
        assert torch.equal(dense[index], roi_masks(*alone)[0])
        assert coded[index] == roi_masks(*alone, mask_format='rle')[0]


@settings(max_examples=25)
@given(st.lists(st.sampled_from([3, 7]), max_size=9), st.data())
def test_split_by_image(sides: list[int], data: st.DataObject) -> None:
    masks, _ = scene(len(sides), sides)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sides)), max_size=3)))
    ends = [*cuts, len(sides)]
    counts = [b - a for a, b in zip([0, *cuts], ends)]
    parts = grouped(masks).split(counts)
    assert [len(part) for part in parts] == counts
    rejoined = [mask for part in parts for mask in part.as_list()]
    assert len(rejoined) == len(masks)
    assert all(torch.equal(a, b) for a, b in zip(rejoined, masks))


def test_one_size_equals_the_plain_tensor() -> None:
    masks, boxes = scene(4, [14] * 4)
    stacked = torch.stack(masks)
    grids = MaskGrids.of_one_size(stacked)
    assert torch.equal(roi_masks(grids, boxes, SIZE), roi_masks(stacked, boxes, SIZE))
    first, second = grids.split([3, 1])
    assert torch.equal(roi_masks(first, boxes[:3], SIZE), roi_masks(stacked[:3], boxes[:3], SIZE))
    assert torch.equal(torch.stack(second.as_list()), stacked[3:])


@pytest.mark.parametrize('mask_format', ['dense', 'rle'])
@pytest.mark.parametrize('grids', [MaskGrids([]), MaskGrids.of_one_size(torch.zeros(0, 7, 7))])
def test_no_instances(grids: MaskGrids, mask_format: str) -> None:
    masks = roi_masks(grids, torch.zeros(0, 4), SIZE, mask_format=mask_format)
    assert len(masks) == 0
    assert mask_format == 'rle' or masks.shape == (0, *SIZE)
    assert [len(part) for part in grids.split([0, 0])] == [0, 0]


def test_disagreeing_numbers_are_refused() -> None:
    masks, boxes = scene(3, [7, 7, 3])
    with pytest.raises(ValueError, match='3 masks but 2 boxes'):
        roi_masks(grouped(masks), boxes[:2], SIZE)
    with pytest.raises(ValueError, match='parts of 2 instances, but there are 3'):
        grouped(masks).split([2])
    with pytest.raises(ValueError, match=r'\(1,\) and \(2, 7, 7\)'):
        MaskGrids([GridGroup(torch.zeros(1, dtype=torch.long), torch.zeros(2, 7, 7))])
