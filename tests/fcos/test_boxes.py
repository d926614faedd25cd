"""Conversion, clipping and overlap of boxes."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from mmrefine.fcos import clip_boxes, decode_ltrb, encode_ltrb, paired_iou, pairwise_iou

INTEGER_BOX = st.tuples(*[st.integers(0, 12)] * 4).map(
    lambda b: [min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3])]
)


def pixels(box: list[int], inclusive: bool) -> set[tuple[int, int]]:
    extra = int(inclusive)
    return {(x, y) for x in range(box[0], box[2] + extra) for y in range(box[1], box[3] + extra)}


@given(INTEGER_BOX, INTEGER_BOX, st.booleans())
def test_overlap_counts_the_pixels_that_two_boxes_share(first, second, inclusive):
    a, b = pixels(first, inclusive), pixels(second, inclusive)
    expected = len(a & b) / max(len(a | b), 1)
    found = paired_iou(torch.tensor(first), torch.tensor(second), offset=float(inclusive))
    torch.testing.assert_close(float(found), expected)


def test_pairwise_overlap_holds_all_pairs_and_accepts_none():
    boxes = torch.tensor([[0.0, 0, 4, 4], [2, 2, 6, 6], [9, 9, 9, 9]])
    table = pairwise_iou(boxes, boxes)
    assert table[0, 1] == table[1, 0] == 4 / 28
    assert table[2].tolist() == [0, 0, 0]
    assert pairwise_iou(boxes[:0], boxes).shape == (0, 3)


@given(st.lists(st.floats(-50, 50, width=32), min_size=6, max_size=6))
def test_encoding_undoes_decoding(numbers):
    point, ltrb = torch.tensor(numbers[:2]), torch.tensor(numbers[2:])
    torch.testing.assert_close(
        encode_ltrb(point, decode_ltrb(point, ltrb)), ltrb, atol=1e-5, rtol=0
    )


def test_clipping_limits_to_the_image_or_to_its_last_pixel():
    boxes = torch.tensor([[-3.0, -2, 90, 40], [70, 10, 65, 20]])
    assert clip_boxes(boxes, (30, 64)).tolist() == [[0, 0, 64, 30], [64, 10, 64, 20]]
    assert clip_boxes(boxes, (30, 64), offset=1)[0].tolist() == [0, 0, 63, 29]
