"""Selection and suppression of detections."""

from importlib import import_module

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.ops import batched_nms, nms
from mmdet.models.layers import fast_nms

from mmrefine.fcos import best_points, class_candidates, paired_iou, select_detections, suppress
from mmrefine.fcos.candidates import least_sides
from mmrefine.fcos.nms import KINDS

nms_rules = import_module('mmrefine.fcos.nms')


def random_boxes(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 40
    return torch.cat((corner, corner + 4 + torch.rand(count, 2, generator=generator) * 30), dim=1)


def greedy(boxes: torch.Tensor, scores: torch.Tensor, threshold: float, offset: int) -> set[int]:
    """Suppression as the paper states it, one box at a time."""
    kept: list[int] = []
    for i in scores.argsort(descending=True).tolist():
        if all(paired_iou(boxes[i], boxes[j], offset) <= threshold for j in kept):
            kept.append(i)
    return set(kept)


@settings(max_examples=30)
@given(st.integers(0, 25), st.integers(0, 10**6), st.sampled_from([0, 1]))
def test_greedy_suppression_keeps_classes_apart(count, seed, offset):
    boxes = random_boxes(count, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    scores = torch.rand(count, generator=generator)
    labels = torch.randint(0, 3, (count,), generator=generator)
    cfg = {'iou_threshold': 0.5, 'offset': offset}
    kept, ranked = suppress(boxes, scores, labels, cfg)
    expected = set()
    for label in range(3):
        group = (labels == label).nonzero()[:, 0]
        expected |= {int(group[i]) for i in greedy(boxes[group], scores[group], 0.5, offset)}
    assert set(kept.tolist()) == expected
    assert ranked.tolist() == scores[kept].tolist() == sorted(ranked.tolist(), reverse=True)
    assert suppress(boxes, scores, labels, cfg, limit=3)[0].tolist() == kept[:3].tolist()


@settings(max_examples=40)
@given(
    st.integers(0, 60),
    st.integers(0, 10**6),
    st.sampled_from([0, 1]),
    st.sampled_from([0.25, 0.5, 0.6]),
    st.sampled_from([0.0, 0.3]),
)
def test_all_groups_at_once_are_suppressed_as_one_by_one(count, seed, offset, threshold, least):
    generator = torch.Generator().manual_seed(seed)
    # Whole pixels: overlaps are often the threshold itself. All scores differ.
    corners = torch.randint(0, 12, (count, 2), generator=generator)
    boxes = torch.cat([corners, corners + torch.randint(0, 9, (count, 2), generator=generator)], 1)
    scores = torch.randperm(count, generator=generator) / max(count, 1)
    groups = torch.randint(0, 4, (count,), generator=generator)
    rule = (boxes.float(), scores, groups, threshold, offset, least)
    assert nms_rules._greedy_pairs(*rule).tolist() == nms_rules.greedy_nms(*rule).tolist()


def test_chains_of_suppression_and_many_pairs(monkeypatch):
    monkeypatch.setattr(nms_rules, 'PAIRS', {'cpu': 50, 'cuda': 50})
    left = torch.arange(70.0)  # each overlaps its neighbours only: every other one is kept
    boxes = torch.stack([left * 6, left * 0, left * 6 + 10, left * 0 + 10], dim=1)
    rule = (boxes, -left, torch.zeros(70).long(), 0.2, 0, 0.0)
    assert nms_rules._greedy_pairs(*rule).tolist() == list(range(0, 70, 2))


@settings(max_examples=30)
@given(st.integers(1, 30), st.integers(0, 10**6))
def test_parallel_suppression_equals_mmdet(count, seed):
    boxes = random_boxes(count, seed)
    scores = torch.rand(count, 4, generator=torch.Generator().manual_seed(seed + 1))
    background = torch.cat((scores, scores.new_zeros(count, 1)), dim=1)
    expected, labels, _ = fast_nms(
        boxes, background, torch.zeros(count, 1), score_thr=0.3, iou_thr=0.5, top_k=20, max_num=15
    )
    nms = {'type': 'fast', 'iou_threshold': 0.5, 'top_k': 20}
    cfg = {'score_thr': 0.3, 'nms': nms, 'max_per_img': 15}
    found, points, ours = select_detections(boxes, scores, torch.ones(count), (count,), cfg)
    assert torch.equal(found, expected[:, 4])
    assert torch.equal(boxes[points], expected[:, :4])
    assert torch.equal(ours, labels)


@pytest.mark.parametrize('kind', KINDS)
def test_suppression_of_nothing_gives_nothing(kind):
    cfg = {'score_thr': 0.1, 'nms': {'type': kind, 'iou_threshold': 0.5}}
    for boxes, scores in (
        (torch.zeros(0, 4), torch.zeros(0, 3)),
        (random_boxes(5, 0), torch.full((5, 3), 0.01)),
    ):
        count = len(boxes)
        found = select_detections(boxes, scores, torch.ones(count), (count, 0), cfg)
        assert [len(part) for part in found] == [0, 0, 0]


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
@pytest.mark.parametrize('place', [0, 1, 2])
def test_one_value_that_is_not_finite_is_an_error(kind, value, place):
    given = [random_boxes(3, 1), torch.full((3, 1), 0.9), torch.ones(3)]
    given[place][1] = value
    cfg = {'score_thr': 0.1, 'nms': {'type': kind, 'iou_threshold': 0.5}}
    with pytest.raises(FloatingPointError, match='not finite: look for NaN in the checkpoint'):
        select_detections(*given, (3,), cfg)


@settings(max_examples=20)
@given(st.integers(0, 40), st.integers(0, 10**6), st.booleans())
def test_stock_settings_mean_what_they_mean_in_mmcv(count, seed, agnostic):
    boxes, generator = random_boxes(count, seed), torch.Generator().manual_seed(seed)
    scores = torch.rand(count, generator=generator)
    labels = torch.randint(0, 4, (count,), generator=generator)
    common = {'iou_threshold': 0.4, 'class_agnostic': agnostic}
    for cfg in (
        {'type': 'nms', 'max_num': 9},
        {'type': 'nms', 'split_thr': 5},
        {'type': 'soft_nms', 'min_score': 0.2, 'method': 'gaussian'},
    ):
        kept, found = suppress(boxes, scores, labels, cfg | common)
        if count == 0:
            assert len(kept) == len(found) == 0
            continue
        expected, order = batched_nms(boxes, scores, labels, cfg | common)
        assert torch.equal(kept, order)
        assert torch.equal(found, expected[:, 4])
    # The random coordinates leave no overlap close enough to the threshold for rounding to matter.
    ours, stock = (
        suppress(boxes, scores, labels, {'type': kind, 'max_num': 9} | common)
        for kind in ('greedy', 'nms')
    )
    assert torch.equal(ours[0], stock[0])
    assert torch.equal(ours[1], stock[1])


def test_no_settings_suppress_nothing():
    boxes = torch.tensor([[0.0, 0, 10, 10]]).repeat(3, 1)
    scores = torch.tensor([0.2, 0.9, 0.5])
    assert suppress(boxes, scores, torch.zeros(3).long(), None)[0].tolist() == [1, 2, 0]


@pytest.mark.parametrize(
    ('changes', 'reason'),
    [
        (
            {'scor_threshold': 0.1},
            "unknown key 'scor_threshold' in nms=.* 'greedy' takes .*max_num",
        ),
        ({'top_k': 9}, "unknown key 'top_k'"),
        ({'type': 'fast', 'score_threshold': 0.1}, "'score_threshold' .* 'fast' takes .*top_k"),
        ({'type': 'nms', 'sigma': 0.1}, "unknown key 'sigma'"),
        ({'type': 'soft_nms', 'max_num': 9}, "unknown key 'max_num'"),
        ({'iou_thr': 0.3}, "unknown key 'iou_thr'"),
        ({'iou_threshold': None}, 'has no iou_threshold'),
    ],
)
def test_settings_that_have_no_effect_are_refused_by_name(changes, reason):
    cfg = {'iou_threshold': 0.5, **changes}
    cfg = {key: value for key, value in cfg.items() if value is not None}
    with pytest.raises(ValueError, match=reason):
        suppress(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0), cfg)


@pytest.mark.parametrize('kind', KINDS)
def test_the_threshold_may_have_its_former_name(kind):
    boxes, scores = random_boxes(20, 0), torch.linspace(0.9, 0.1, 20)
    kept, former = (
        suppress(boxes, scores, torch.zeros(20).long(), {'type': kind, key: 0.3})[0].tolist()
        for key in ('iou_threshold', 'iou_thr')
    )
    assert kept == former


def test_unknown_types_are_refused_by_name():
    with pytest.raises(ValueError, match="unknown nms type 'nms_rotated'"):
        suppress(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0), {'type': 'nms_rotated'})
    with pytest.raises(ValueError, match="'pairs' or 'points', got 'boxes'"):
        select_detections(
            torch.zeros(0, 4), torch.zeros(0, 1), torch.zeros(0), (0,), {'candidates': 'boxes'}
        )


def test_candidates_pass_by_class_score_and_rank_by_product():
    probs = torch.tensor([[0.9, 0.04], [0.06, 0.5], [0.3, 0.2]])
    factors = torch.tensor([0.1, 1.0, 0.5])
    scores, points, labels = class_candidates(probs, factors, 0.05)
    assert list(zip(points.tolist(), labels.tolist())) == [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1)]
    torch.testing.assert_close(scores, torch.tensor([0.09, 0.06, 0.5, 0.15, 0.1]))
    limited = class_candidates(probs, factors, 0.05, limit=2)
    assert list(zip(limited[1].tolist(), limited[2].tolist())) == [(1, 1), (2, 0)]
    assert torch.equal(class_candidates(probs, factors, 0.05, limit=-1)[0], scores)
    product = class_candidates(probs, factors, 0.095, filter_by_product=True)
    assert list(zip(product[1].tolist(), product[2].tolist())) == [(1, 1), (2, 0), (2, 1)]


def test_small_boxes_are_left_out_by_their_sides_in_the_original_image():
    boxes = torch.tensor([[0.0, 0, 8, 20], [0.0, 0, 8.1, 10.1], [0.0, 0, 30, 30]])
    probs = torch.tensor([[0.9], [0.8], [0.7]])
    args = boxes, probs, torch.ones(3), [3]
    least = least_sides({'min_bbox_size': 4}, (2.0, 2.5))
    assert least == (8.0, 10.0)
    assert select_detections(*args, {'nms': None}, least)[1].tolist() == [1, 2]
    assert select_detections(*args, {'nms': None}, least_sides({}, (2.0, 2.5)))[1].tolist() == [
        0, 1, 2,
    ]  # fmt: skip
    assert least_sides({'min_bbox_size': -1}, (1.0, 1.0)) is None
    none = select_detections(boxes, 0 * probs, torch.ones(3), [3], {'nms': None}, least)
    assert [len(part) for part in none] == [0, 0, 0]


def test_no_candidates_is_a_size():
    scores, points, labels = class_candidates(torch.zeros(0, 5), torch.zeros(0), 0.1, limit=7)
    assert len(scores) == len(points) == len(labels) == 0


def test_the_best_points_are_kept_in_grid_order_unless_cut():
    probs = torch.tensor([[0.1, 0.8], [0.5, 0.1], [0.9, 0.9]])
    factors = torch.tensor([1.0, 1.0, 0.1])
    assert best_points(probs, factors, 3).tolist() == [0, 1, 2]
    assert best_points(probs, factors, -1).tolist() == [0, 1, 2]
    assert best_points(probs, factors, 2).tolist() == [0, 1]


def test_boxes_of_far_classes_are_suppressed_without_rounding():
    # Shifting classes apart loses these bits: at 80 x 1333 pixels float32 steps by 0.008.
    boxes = torch.tensor([[0.0, 0, 1000, 10], [0.0, 0, 1000, 20.001]])
    labels = torch.tensor([1200, 1200])
    scores = torch.tensor([0.9, 0.8])
    alone = nms(boxes, scores, 0.49999)[1].tolist()
    assert suppress(boxes, scores, labels, {'iou_threshold': 0.49999})[0].tolist() == alone
