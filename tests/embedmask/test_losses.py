"""Lovász hinge and its companions against their definitions, cell by cell."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from replay.embedmask_units import lovasz_hinge, probability_to_logit
from torch import Tensor

from mmrefine.embedmask.losses import (
    dice_from_exponent,
    exponent_to_logit,
    group_means,
    lovasz_from_exponent,
    smooth_loss,
)


def jaccard_loss(targets: list[bool], wrong: set[int]) -> float:
    """1 - IoU of a prediction that errs at the cells ``wrong``."""
    truth = {i for i, y in enumerate(targets) if y}
    predicted = truth ^ wrong
    union = truth | predicted
    return 1 - len(truth & predicted) / len(union) if union else 0.0


def lovasz_by_definition(logits: list[float], targets: list[bool]) -> float:
    """Lovász extension of the Jaccard loss at the hinge errors: sets grow by falling error."""
    errors = [1 - z * (1 if y else -1) for z, y in zip(logits, targets)]
    order = sorted(range(len(errors)), key=lambda i: -errors[i])
    total, wrong = 0.0, set()
    for i in order:
        before = jaccard_loss(targets, wrong)
        wrong.add(i)
        total += max(errors[i], 0.0) * (jaccard_loss(targets, wrong) - before)
    return total


cells = st.integers(1, 12)


@settings(max_examples=80)
@given(st.data(), cells, st.integers(0, 4))
def test_hinge_equals_the_lovasz_extension_of_the_jaccard_loss(data, n, k):
    logit = st.floats(-4, 4, width=32)
    logits = data.draw(st.lists(st.lists(logit, min_size=n, max_size=n), min_size=k, max_size=k))
    targets = data.draw(
        st.lists(st.lists(st.booleans(), min_size=n, max_size=n), min_size=k, max_size=k)
    )
    ours = lovasz_hinge(
        torch.tensor(logits).view(k, n), torch.tensor(targets, dtype=torch.bool).view(k, n)
    )
    expected = [lovasz_by_definition(z, y) for z, y in zip(logits, targets)]
    torch.testing.assert_close(ours, torch.tensor(expected).view(k), atol=1e-5, rtol=1e-5)


def test_exponents_give_the_same_loss_and_gradient_as_logits():
    exponent = (torch.rand(3, 200) * 4).requires_grad_()
    targets = torch.rand(3, 200) < 0.3
    valid = torch.rand(3, 200) < 0.8
    direct = lovasz_from_exponent(exponent, targets, valid)
    logits = exponent_to_logit(exponent)
    through = lovasz_hinge(logits, targets, valid)
    torch.testing.assert_close(direct, through)
    ours, expected = (
        torch.autograd.grad(x.sum(), exponent, retain_graph=True)[0] for x in (direct, through)
    )
    torch.testing.assert_close(ours, expected)


def test_cells_that_do_not_count_change_nothing():
    exponent, targets = torch.rand(2, 50) * 3, torch.rand(2, 50) < 0.5
    valid = torch.rand(2, 50) < 0.5
    ours = lovasz_from_exponent(exponent, targets, valid)
    cut = [
        lovasz_from_exponent(e[v][None], t[v][None]) for e, t, v in zip(exponent, targets, valid)
    ]
    torch.testing.assert_close(ours, torch.cat(cut))


def test_filter_keeps_exactly_the_cells_with_a_positive_error():
    d = torch.linspace(0.01, 3, 500)
    errors_fg, errors_bg = 1 - exponent_to_logit(d), 1 + exponent_to_logit(d)
    assert (
        torch.equal(errors_fg > 1e-4, d > math.log1p(math.exp(-1)) + 3e-5)
        or ((errors_fg > 1e-4) ^ (d > math.log1p(math.exp(-1)))).sum() <= 1
    )
    assert ((errors_bg > 1e-4) ^ (d < math.log1p(math.exp(1)))).sum() <= 1


@pytest.mark.parametrize('foreground', [True, False])
@pytest.mark.parametrize('value', [0.0, -1e-5, 1e-30, 1e4, 1e30])
def test_extreme_exponents_have_finite_loss_and_gradient(value, foreground):
    exponent = torch.full((1, 9), value, requires_grad=True)
    targets = torch.full((1, 9), foreground)
    loss = lovasz_from_exponent(exponent, targets).sum()
    loss.backward()
    assert loss.isfinite()
    assert exponent.grad.isfinite().all()


@pytest.mark.parametrize('probability', [0.0, 1.0])
def test_certain_probabilities_have_finite_loss_and_gradient(probability):
    p = torch.full((1, 5), probability, requires_grad=True)
    loss = lovasz_hinge(probability_to_logit(p), torch.tensor([[True, False, True, False, True]]))
    loss.sum().backward()
    assert loss.isfinite().all()
    assert p.grad.isfinite().all()


def test_no_instances_no_cells_and_no_foreground():
    assert lovasz_hinge(torch.zeros(0, 7), torch.zeros(0, 7, dtype=torch.bool)).shape == (0,)
    assert lovasz_hinge(torch.zeros(2, 0), torch.zeros(2, 0, dtype=torch.bool)).tolist() == [0, 0]
    # without foreground the loss is the largest error alone
    logits = torch.tensor([[0.5, -0.5, -3.0]])
    assert lovasz_hinge(logits, torch.zeros(1, 3, dtype=torch.bool)).item() == 1.5


def test_cells_beyond_the_limit_count_but_get_no_gradient():
    exponent = torch.tensor([[30.0, 1.0]], requires_grad=True)
    targets = torch.tensor([[True, True]])
    lovasz_from_exponent(exponent, targets, high=20.0).sum().backward()
    assert exponent.grad[0, 0] == 0
    assert exponent.grad[0, 1] > 0


def test_dice_is_zero_for_a_perfect_mask_and_one_for_a_disjoint_one():
    targets = torch.tensor([[True, True, False, False]])
    perfect = torch.where(targets, 0.0, 100.0)
    assert dice_from_exponent(perfect, targets).item() == pytest.approx(0, abs=1e-5)
    assert dice_from_exponent(perfect.flip(1), targets).item() == pytest.approx(1)


def group_loss(vectors: Tensor, groups: Tensor, group: int) -> Tensor:
    members = vectors[groups == group]
    return (members - members.mean(dim=0)).square().sum() if len(members) else torch.zeros(())


def test_smooth_loss_sums_distances_to_the_mean_of_each_object():
    embeds, margins = torch.randn(7, 4), torch.rand(7, 1)
    groups = torch.tensor([0, 2, 0, 2, 2, 3, 0])
    vectors = torch.cat((embeds, margins), 1)
    expected = torch.stack([group_loss(vectors, groups, g) for g in range(5)])
    torch.testing.assert_close(smooth_loss(embeds, margins, groups, 5), expected)


def test_group_means_ignore_order_and_leave_empty_groups_at_zero():
    values = torch.tensor([[1.0], [3.0], [10.0]])
    means = group_means(values, torch.tensor([2, 2, 0]), 3)
    assert means.tolist() == [[10.0], [0.0], [2.0]]
