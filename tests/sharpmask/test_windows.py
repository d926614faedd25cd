"""Choosing, cutting and pasting windows."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from mmrefine.masks import encode, roi_masks_to_rle, to_dense
from mmrefine.sharpmask.windows import (
    Level,
    Placement,
    box_average,
    gather_windows,
    level_image,
    paste_windows,
    scaled_size,
    select_windows,
    tight_boxes,
)


def level(scores: torch.Tensor) -> Level:
    return Level(1.0, torch.zeros(1), scores, [])


def test_windows_come_best_first_over_all_levels():
    levels = [level(torch.tensor([[0.1, 0.9], [0.3, 0.2]])), level(torch.tensor([[0.5, 0.4, 0.8]]))]
    windows = select_windows(levels, 4)
    assert windows.levels.tolist() == [0, 1, 1, 1]
    assert windows.cells.tolist() == [[0, 1], [0, 2], [0, 0], [0, 1]]
    torch.testing.assert_close(windows.scores, torch.tensor([0.9, 0.8, 0.5, 0.4]))


def test_fewer_windows_than_proposals_give_what_there_is():
    assert len(select_windows([level(torch.rand(1, 2)), level(torch.rand(2, 1))], 100).scores) == 4


@pytest.mark.parametrize(
    ('peak', 'window'), [((1, 6), (0, 7)), ((3, 20), (3, 0)), ((0, 0), (0, 1)), ((16, 20), (16, 0))]
)
def test_the_released_codes_index_error_on_request(peak, window):
    scores = torch.zeros(17, 21)
    scores[peak] = 1
    assert select_windows([level(scores)], 1).cells.tolist() == [list(peak)]
    assert select_windows([level(scores)], 1, index_quirk=True).cells.tolist() == [list(window)]


def test_gathered_windows_equal_slices_and_are_zero_outside():
    maps = torch.rand(1, 3, 9, 11) + 1
    cells = torch.tensor([[0, 0], [1, 2], [2, 3]])
    windows = gather_windows(maps, cells, size=6, step=2)
    torch.testing.assert_close(windows[0], maps[0, :, :6, :6])
    torch.testing.assert_close(windows[1], maps[0, :, 2:8, 4:10])
    padded = F.pad(maps[0], (0, 5, 0, 5))
    torch.testing.assert_close(windows[2], padded[:, 4:10, 6:12])
    assert gather_windows(maps, cells[:0], 6, 2).shape == (0, 3, 6, 6)


def test_level_sizes_round_half_up_or_down_and_stay_positive():
    assert scaled_size((5, 7), 0.5) == (3, 4)
    assert scaled_size((5, 7), 0.5, 'floor') == (2, 3)
    assert scaled_size((1, 3), 0.1) == (1, 1)


def test_levels_are_surrounded_by_the_fill_colour():
    image = torch.zeros(1, 3, 4, 6)
    fill = torch.tensor([1.0, 2.0, 3.0])
    padded = level_image(image, (4, 6), 2, fill)
    assert padded.shape == (1, 3, 8, 10)
    torch.testing.assert_close(padded[0, :, 0, 0], fill)
    assert not padded[..., 2:6, 2:8].any()


def reference_paste(logits, cells, scale, size, threshold, side):
    """The released rule in plain steps, one full-size map per window."""
    target = int(side / scale)
    masks = []
    for soft, (row, col) in zip(logits, cells.tolist()):
        big = F.interpolate(soft[None, None], (target, target), mode='bilinear', align_corners=True)
        y0 = int(np.floor((16 * row - side / 2) / scale))
        x0 = int(np.floor((16 * col - side / 2) / scale))
        full = torch.zeros(size, dtype=torch.bool)
        for y in range(max(y0, 0), min(y0 + target, size[0])):
            lo, hi = max(x0, 0), min(x0 + target, size[1])
            if hi > lo:
                full[y, lo:hi] = big[0, 0, y - y0, lo - x0 : hi - x0] > np.log(
                    threshold / (1 - threshold)
                )
        masks.append(full)
    return torch.stack(masks)


@settings(max_examples=25)
@given(
    st.integers(20, 90), st.integers(20, 90), st.sampled_from([0.5, 0.35, 1.0]),
    st.sampled_from([0.2, 0.7]), st.integers(0, 99),
)  # fmt: skip
def test_the_official_rule_equals_its_plain_form(height, width, scale, threshold, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, 12, 12, generator=generator)
    rows, cols = int(height * scale / 16) + 1, int(width * scale / 16) + 1
    cells = torch.stack([torch.randint(n, (3,), generator=generator) for n in (rows, cols)], 1)
    place = Placement(cells, (scale, scale), (height, width), threshold, side=32)
    rles = paste_windows(logits, place)
    expected = reference_paste(logits, cells, scale, (height, width), threshold, 32)
    assert (to_dense(rles) != expected).float().mean() < 1e-3
    for box, mask in zip(tight_boxes(rles).tolist(), to_dense(rles)):
        ys, xs = mask.nonzero().T
        edges = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1] if len(xs) else [0] * 4
        assert box == [int(v) for v in edges]


def test_the_grid_rule_equals_roi_pasting():
    logits = torch.randn(4, 14, 14)
    cells = torch.tensor([[0, 0], [1, 2], [3, 1], [2, 4]])
    corner = (16 * cells.double().flip(1) - 24) / 0.8
    boxes = torch.cat([corner, corner + 48 / 0.8], 1).float()
    expected = to_dense(roi_masks_to_rle(logits, boxes, (70, 90), 0.5, logits=True))
    place = Placement(cells, (0.8, 0.8), (70, 90), 0.5, side=48, rule='grid')
    ours = paste_windows(logits, place)
    assert torch.equal(to_dense(ours), expected)


def test_shrinking_averages_areas():
    matrix = box_average(160, 113)
    torch.testing.assert_close(matrix.sum(1), torch.ones(113))
    torch.testing.assert_close(
        box_average(4, 2), torch.tensor([[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])
    )


@pytest.mark.parametrize('rule', ['official', 'port', 'grid'])
def test_empty_masks_and_no_windows_are_ordinary(rule):
    place = Placement(torch.zeros(2, 2).long(), (1.0, 1.0), (1, 50), 0.2, 32, rule)
    rles = paste_windows(torch.full((2, 8, 8), -9.0), place)
    assert not tight_boxes(rles).any()
    assert [r['counts'] for r in rles] == [r['counts'] for r in encode(np.zeros((2, 1, 50), bool))]
    none = paste_windows(torch.zeros(0, 8, 8), place._replace(cells=place.cells[:0]))
    assert none == [] and tight_boxes([]).shape == (0, 4)


def test_masks_finer_than_the_image_are_averaged_by_area():
    torch.manual_seed(0)
    logits = torch.randn(2, 32, 32)
    cells = torch.tensor([[2, 1], [3, 3]])
    place = Placement(cells, (1.6, 1.6), (60, 60), 0.4, side=32)
    ours = to_dense(paste_windows(logits, place))
    # 32 cells on int(32 / 1.6) = 20 pixels: five copies of a cell, averaged by eights
    fine = logits.repeat_interleave(5, 1).repeat_interleave(5, 2)
    small = F.avg_pool2d(fine[:, None], 8)[:, 0] > np.log(0.4 / 0.6)
    for mask, window, (row, column) in zip(ours, small, cells.tolist()):
        y, x = (int(np.floor((16 * n - 16) / 1.6)) for n in (row, column))
        expected = torch.zeros(60, 60, dtype=torch.bool)
        expected[y : y + 20, x : x + 20] = window
        assert torch.equal(mask, expected)


@settings(max_examples=30)
@given(st.integers(1, 40), st.integers(1, 60), st.integers(0, 9), st.data())
def test_a_part_of_a_level_is_that_of_the_whole_level(source, target, margin, data):
    picture = torch.randn(1, 3, source, 13, generator=torch.Generator().manual_seed(source))
    size, fill = (target, 17), torch.tensor([1.0, 2.0, 3.0])
    whole = level_image(picture, size, margin, fill)
    resized = F.interpolate(picture, size, mode='bilinear', align_corners=True)
    inner = whole[:, :, margin : margin + target, margin : margin + 17]
    torch.testing.assert_close(inner, resized, atol=1e-5, rtol=1e-5)
    (y1, y2), (x1, x2) = (
        sorted(data.draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True)))
        for n in whole.shape[-2:]
    )
    part = level_image(picture, size, margin, fill, (y1, x1, y2, x2))
    torch.testing.assert_close(part, whole[:, :, y1:y2, x1:x2], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('rule', ['official', 'port'])
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_autocast_does_not_reach_the_pasting(rule, dtype):
    torch.manual_seed(0)
    logits, cells = torch.randn(20, 56, 56), torch.randint(0, 12, (20, 2))
    place = Placement(cells, (0.7, 0.9), (240, 260), 0.3, rule=rule)
    expected = paste_windows(logits, place)
    with torch.autocast('cpu', dtype):
        assert paste_windows(logits, place) == expected
