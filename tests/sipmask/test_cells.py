"""Boxes on maps and their cells, against the rule written pixel by pixel."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmrefine.sipmask.cells import cell_index, split_boxes

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
def test_regions_cover_exactly_the_pixels_inside(boxes, k, height, width):
    tensor = torch.tensor(boxes, dtype=torch.float32).view(-1, 4)
    regions = split_boxes(tensor, (height, width), k)
    for n in range(len(boxes)):
        plane = torch.full((height, width), -1)
        xs, ys = regions.x_edges[n], regions.y_edges[n]
        for i in range(k):
            for j in range(k):
                plane[ys[i] : ys[i + 1], xs[j] : xs[j + 1]] = i * k + j
        rows, columns = regions.rows[n][:, None], regions.columns[n][None]
        expected = torch.where((rows >= 0) & (columns >= 0), rows * k + columns, -1)
        assert torch.equal(plane, expected)


@given(BOXES, st.integers(1, 12), st.integers(1, 14))
def test_pixels_list_the_regions_row_by_row(boxes, height, width):
    regions = split_boxes(torch.tensor(boxes).view(-1, 4), (height, width), 2)
    box, rows, columns = regions.pixels()
    expected = [
        (n, y, x)
        for n, (ys, xs) in enumerate(regions.slices())
        for y in range(height)[ys]
        for x in range(width)[xs]
    ]
    assert list(zip(box.tolist(), rows.tolist(), columns.tolist())) == expected
    assert sum(regions.areas) == len(expected)


def test_the_middle_pixel_goes_left_and_seams_ignore_the_map_border():
    assert cell_index(torch.tensor([0.0]), torch.tensor([8.0]), 9, 2).tolist() == [
        [0, 0, 0, 0, 0, 1, 1, 1, -1]
    ]
    # The box reaches from -8 to 8: its right half begins at 0.05, so only pixel 0 is left of it.
    assert cell_index(torch.tensor([-8.0]), torch.tensor([8.0]), 5, 2).tolist() == [[0, 1, 1, 1, 1]]
