"""Selection and suppression of detections."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.ops import nms
from mmdet.models.layers import fast_nms

from mmrefine.fcos import best_points, class_candidates, class_nms, fast_class_nms, paired_iou


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
    kept = class_nms(boxes, scores, labels, 0.5, offset)
    expected = set()
    for label in range(3):
        group = (labels == label).nonzero()[:, 0]
        expected |= {int(group[i]) for i in greedy(boxes[group], scores[group], 0.5, offset)}
    assert set(kept.tolist()) == expected
    assert scores[kept].tolist() == sorted(scores[kept].tolist(), reverse=True)
    assert class_nms(boxes, scores, labels, 0.5, offset, limit=3).tolist() == kept[:3].tolist()


@settings(max_examples=30)
@given(st.integers(1, 30), st.integers(0, 10**6))
def test_parallel_suppression_equals_mmdet(count, seed):
    boxes = random_boxes(count, seed)
    scores = torch.rand(count, 4, generator=torch.Generator().manual_seed(seed + 1))
    background = torch.cat((scores, scores.new_zeros(count, 1)), dim=1)
    expected, labels, _ = fast_nms(
        boxes, background, torch.zeros(count, 1), score_thr=0.3, iou_thr=0.5, top_k=20, max_num=15
    )
    found, points, ours = fast_class_nms(boxes, scores, 0.5, 0.3, top_k=20, limit=15)
    assert torch.equal(found, expected[:, 4])
    assert torch.equal(boxes[points], expected[:, :4])
    assert torch.equal(ours, labels)


def test_parallel_suppression_of_nothing_gives_nothing():
    for boxes, scores in (
        (torch.zeros(0, 4), torch.zeros(0, 3)),
        (random_boxes(5, 0), torch.full((5, 3), 0.01)),
        (random_boxes(5, 0), torch.full((5, 3), float('nan'))),
    ):
        assert [len(part) for part in fast_class_nms(boxes, scores, 0.5, 0.1)] == [0, 0, 0]


def test_nan_scores_do_not_displace_sound_ones():
    boxes = random_boxes(3, 1)
    scores = torch.tensor([[float('nan')], [0.9], [float('nan')]])
    found, points, _ = fast_class_nms(boxes, scores, 0.5, 0.1)
    assert points.tolist() == [1]
    assert found.tolist() == scores[1].tolist()


def test_candidates_pass_by_class_score_and_rank_by_product():
    probs = torch.tensor([[0.9, 0.04], [0.06, 0.5], [0.3, 0.2]])
    factors = torch.tensor([0.1, 1.0, 0.5])
    scores, points, labels = class_candidates(probs, factors, 0.05)
    assert list(zip(points.tolist(), labels.tolist())) == [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1)]
    torch.testing.assert_close(scores, torch.tensor([0.09, 0.06, 0.5, 0.15, 0.1]))
    limited = class_candidates(probs, factors, 0.05, limit=2)
    assert list(zip(limited[1].tolist(), limited[2].tolist())) == [(1, 1), (2, 0)]
    product = class_candidates(probs, factors, 0.095, filter_by_product=True)
    assert list(zip(product[1].tolist(), product[2].tolist())) == [(1, 1), (2, 0), (2, 1)]


def test_no_candidates_is_a_size():
    scores, points, labels = class_candidates(torch.zeros(0, 5), torch.zeros(0), 0.1, limit=7)
    assert len(scores) == len(points) == len(labels) == 0


def test_the_best_points_are_kept_in_grid_order_unless_cut():
    probs = torch.tensor([[0.1, 0.8], [0.5, 0.1], [0.9, 0.9]])
    factors = torch.tensor([1.0, 1.0, 0.1])
    assert best_points(probs, factors, 3).tolist() == [0, 1, 2]
    assert best_points(probs, factors, 2).tolist() == [0, 1]


def test_boxes_of_far_classes_are_suppressed_without_rounding():
    # Shifting classes apart loses these bits: at 80 x 1333 pixels float32 steps by 0.008.
    boxes = torch.tensor([[0.0, 0, 1000, 10], [0.0, 0, 1000, 20.001]])
    labels = torch.tensor([1200, 1200])
    scores = torch.tensor([0.9, 0.8])
    alone = nms(boxes, scores, 0.49999)[1].tolist()
    assert class_nms(boxes, scores, labels, 0.49999).tolist() == alone
