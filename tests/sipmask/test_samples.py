"""Selection and weights of the mask samples."""

import pytest
import torch
from mmengine.structures import InstanceData

from mmrefine.fcos import paired_iou
from mmrefine.sipmask.samples import select_samples

GT = torch.tensor([[10.0, 10, 50, 50], [60, 20, 100, 90]])


def positives(boxes: list[list[float]], owners: list[int], scores: list[float]) -> InstanceData:
    return InstanceData(
        bboxes=torch.tensor(boxes).view(-1, 4),
        gt_inds=torch.tensor(owners, dtype=torch.long),
        scores=torch.tensor(scores),
        coeffs=torch.arange(len(boxes)).float(),
    )


GOOD = positives(
    [[12, 8, 52, 48], [58.0, 22, 98, 95], [10, 10, 50, 50]], [0, 1, 0], [0.2, 0.5, 0.9]
)


@pytest.mark.parametrize('offset', [0.0, 1.0])
def test_weights_are_score_times_overlap_with_mean_one(offset):
    samples = select_samples(GOOD, GT, iou_offset=offset)
    merit = GOOD.scores * paired_iou(GT[GOOD.gt_inds] / 2, GOOD.bboxes / 2, offset)
    torch.testing.assert_close(samples.weights, merit / (merit.sum() + 1e-4) * 3)
    assert abs(float(samples.weights.mean()) - 1) < 1e-3


def test_small_and_inverted_boxes_are_dropped():
    found = positives(
        [[10.0, 10, 12, 11.9], [50, 50, 10, 10], [30, 10, 10, 50], [10, 10, 50, 50]],
        [0, 0, 0, 0],
        [0.5] * 4,
    )
    assert select_samples(found, GT).coeffs.tolist() == [3]
    assert select_samples(found, GT, keep_inverted=True).coeffs.tolist() == [1, 3]


def test_suppression_filters_after_the_weights_and_keeps_the_order():
    near = positives(
        [[10.0, 10, 50, 50], [10, 10, 50, 50.5], [60, 20, 100, 90]], [0, 0, 1], [0.3, 0.8, 0.5]
    )
    everything = select_samples(near, GT)
    kept = select_samples(near, GT, nms_threshold=0.9)
    assert kept.coeffs.tolist() == [1, 2]
    assert torch.equal(kept.weights, everything.weights[1:])


def test_no_overlap_at_all_gives_zero_weights_not_nan():
    far = positives([[200.0, 200, 220, 220]], [0], [0.5])
    for eps in (1e-4, 0.0):
        assert select_samples(far, GT, weight_eps=eps).weights.tolist() == [0.0]


@pytest.mark.parametrize('threshold', [None, 0.9])
def test_no_positives_stay_none(threshold):
    samples = select_samples(GOOD[:0], GT, nms_threshold=threshold)
    assert len(samples) == 0
    assert samples.weights.shape == (0,)
