"""Box losses on distances."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmdet.models.losses.iou_loss import giou_loss, iou_loss

from mmrefine.fcos import LtrbIoULoss, decode_ltrb, paired_iou

POSITIVE = st.floats(0.125, 40, width=32)
LTRB = st.lists(POSITIVE, min_size=4, max_size=4).map(torch.tensor)
POINT = torch.zeros(2)


@given(LTRB, LTRB)
def test_losses_equal_the_corner_form(pred, target):
    pred, target = pred[None], target[None]
    corners = decode_ltrb(POINT, pred), decode_ltrb(POINT, target)
    giou = LtrbIoULoss('giou', hull_eps=0)(pred, target)
    iou = LtrbIoULoss('iou')(pred, target)
    torch.testing.assert_close(giou, giou_loss(*corners).mean(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(iou, iou_loss(*corners, mode='log').mean(), atol=1e-5, rtol=1e-4)


@given(LTRB, LTRB)
def test_legacy_iou_counts_pixels(pred, target):
    overlap = paired_iou(decode_ltrb(POINT, pred), decode_ltrb(POINT, target), offset=1)
    found = LtrbIoULoss('iou', offset=1)(pred[None], target[None])
    torch.testing.assert_close(found, -overlap.clamp(min=1e-6).log(), atol=1e-5, rtol=1e-4)


def test_legacy_giou_adds_one_to_intersection_and_union_only():
    pred, target = torch.tensor([[1.0, 1, 1, 1]]), torch.tensor([[2.0, 1, 1, 1]])
    # intersection 4, union 6, enclosing box 6: no hull penalty
    found = LtrbIoULoss('giou', offset=1)(pred, target)
    torch.testing.assert_close(float(found), 1 - 5 / 7, atol=1e-6, rtol=0)


def test_boxes_that_do_not_meet_lose_the_gradient_of_iou_but_not_of_giou():
    target = torch.tensor([[2.0, 2, 2, 2]])
    for kind, expected in (('iou', 0.0), ('giou', None)):
        pred = torch.tensor([[-5.0, 2, 8, 2]], requires_grad=True)
        LtrbIoULoss(kind)(pred, target).backward()
        size = float(pred.grad.abs().sum())
        assert size == expected if expected is not None else size > 0


def test_points_of_weight_zero_are_ignored_whatever_they_hold():
    pred = torch.tensor([[1.0, 1, 1, 1], [float('nan'), 1, 1, 1], [1, 1, 1, 1]], requires_grad=True)
    target = torch.tensor([[2.0, 1, 1, 1], [1, 1, 1, 1], [-9, float('inf'), 0, 0]])
    loss = LtrbIoULoss('giou')(pred, target, weight=torch.tensor([0.5, 0, 0]), avg_factor=2)
    alone = LtrbIoULoss('giou')(pred[:1].detach(), target[:1]) * 0.5 / 2
    torch.testing.assert_close(loss.detach(), alone)
    loss.backward()
    assert pred.grad[1:].eq(0).all()
    assert pred.grad.isfinite().all()


def test_no_points_give_zero_with_a_gradient():
    pred = torch.zeros(0, 4, requires_grad=True)
    loss = LtrbIoULoss()(pred, torch.zeros(0, 4), weight=torch.zeros(0))
    loss.backward()
    assert loss == 0


def test_unknown_kinds_are_refused_by_name():
    with pytest.raises(ValueError, match="unknown kind 'diou'"):
        LtrbIoULoss('diou')
