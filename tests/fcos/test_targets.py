"""Assignment of points to objects."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from mmrefine.fcos import (
    assign_points,
    centerness_targets,
    encode_ltrb,
    make_grid,
    points_on_masks,
)

RANGES = torch.tensor([[-1.0, 16.0], [16.0, 1e8]])
GRID = make_grid([(6, 6), (3, 3)], (8, 16))
BOX = st.tuples(*[st.integers(0, 47)] * 4).map(
    lambda b: [min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]) + 1, max(b[1], b[3]) + 1]
)


def by_hand(boxes: list[list[int]], radius: float | None, offset: float) -> list[int]:
    """The rule of the paper, one point and one object at a time."""
    result = []
    for (x, y), stride, level in zip(
        GRID.points.tolist(), GRID.strides.tolist(), GRID.levels.tolist()
    ):
        best, winner = float('inf'), -1
        for number, (x1, y1, x2, y2) in enumerate(boxes):
            left, top, right, bottom = x1, y1, x2, y2
            if radius is not None:
                cx, cy, reach = (x1 + x2) / 2, (y1 + y2) / 2, radius * stride
                left, right = max(cx - reach, x1), min(cx + reach, x2)
                top, bottom = max(cy - reach, y1), min(cy + reach, y2)
            inside = left < x < right and top < y < bottom
            longest = max(x - x1, y - y1, x2 - x, y2 - y)
            low, high = RANGES[level].tolist()
            area = (x2 - x1 + offset) * (y2 - y1 + offset)
            if inside and low <= longest <= high and area < best:
                best, winner = area, number
        result.append(winner)
    return result


@given(st.lists(BOX, max_size=5), st.sampled_from([None, 0.7, 1.5]), st.sampled_from([0.0, 1.0]))
def test_assignment_follows_the_rule_point_by_point(boxes, radius, offset):
    tensor = torch.tensor(boxes, dtype=torch.float32).view(-1, 4)
    targets = assign_points(GRID, tensor, RANGES, radius, offset)
    assert targets.gt_index.tolist() == by_hand(boxes, radius, offset)
    positive = targets.gt_index >= 0
    expected = encode_ltrb(GRID.points[positive], tensor[targets.gt_index[positive]])
    assert torch.equal(targets.ltrb[positive], expected)


def test_objects_of_equal_area_go_to_the_first_one():
    boxes = torch.tensor([[2.0, 2, 14, 14]]).repeat(3, 1)
    targets = assign_points(GRID, boxes, RANGES)
    assert set(targets.gt_index.tolist()) == {-1, 0}


def test_images_without_objects_are_background():
    targets = assign_points(GRID, torch.zeros(0, 4), RANGES)
    assert (targets.gt_index == -1).all()


def test_given_centres_move_the_central_square_but_not_out_of_the_box():
    boxes = torch.tensor([[0.0, 0, 16, 16]])
    centers = torch.tensor([[4.0, 4.0]])
    targets = assign_points(GRID, boxes, RANGES, center_radius=0.6, centers=centers)
    assert GRID.points[targets.gt_index == 0].tolist() == [[4, 4]]


def test_points_on_masks_reads_the_pixel_and_nothing_outside_the_canvas():
    masks = torch.zeros(2, 10, 13, dtype=torch.bool)
    masks[0, 4, 12] = True
    masks[1] = True
    on = points_on_masks(GRID.points[:36], masks)
    expected = {(12.0, 4.0)}
    assert {tuple(p) for p in GRID.points[:36][on[:, 0]].tolist()} == expected
    assert {tuple(p) for p in GRID.points[:36][on[:, 1]].tolist()} == {(4.0, 4.0), (12.0, 4.0)}


def test_further_conditions_remove_candidates():
    boxes = torch.tensor([[0.0, 0, 16, 16]])
    allowed = GRID.points[:, :1] < 8
    targets = assign_points(GRID, boxes, RANGES, center_radius=None, allowed=allowed)
    assert set(GRID.points[targets.gt_index == 0][:, 0].tolist()) == {4.0}


def test_centerness_is_one_in_the_middle_and_zero_outside():
    ltrb = torch.tensor([[3.0, 5, 3, 5], [1, 4, 4, 1], [-1, 2, 5, 2]])
    assert centerness_targets(ltrb).tolist() == [1.0, 0.25, 0.0]
