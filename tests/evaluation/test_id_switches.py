"""Switched ids are counted, bad masks and absences are not."""

import numpy as np
import pytest
import torch

from mmrefine.evaluation.id_switch_metric import IdSwitchMetric
from mmrefine.masks import encode

SIZE = (20, 40)


def box_mask(column: int, width: int = 8) -> torch.Tensor:
    mask = torch.zeros(1, *SIZE, dtype=torch.bool)
    mask[0, 4:12, column : column + width] = True
    return mask


def frame(number: int, truth: dict, pred: list, video: int = 1, rle: bool = False, **flags) -> dict:
    """Objects by id and predictions (id, column); each is a box of 8 x 8 at its column."""
    masks = torch.cat([torch.zeros(0, *SIZE, dtype=torch.bool), *(box_mask(c) for _, c in pred)])
    return {
        'video_data_samples': [
            {
                'video_id': video,
                'frame_id': number,
                'ori_shape': SIZE,
                'instances': [
                    {'instance_id': key, 'mask': encode(box_mask(column))[0], **flags}
                    for key, column in truth.items()
                ],
                'pred_track_instances': {
                    'instances_id': torch.tensor([i for i, _ in pred], dtype=torch.long),
                    'scores': torch.linspace(0.9, 0.4, len(pred)),
                    'labels': torch.zeros(len(pred), dtype=torch.long),
                    'bboxes': torch.zeros(len(pred), 4),
                    'masks': encode(masks) if rle else masks,
                },
            }
        ]
    }


def score(frames: list[dict], **options) -> dict[str, float]:
    metric = IdSwitchMetric(**options)
    for one in frames:
        metric.process(None, [one])
    return metric.compute_metrics(metric.results)


@pytest.mark.parametrize('rle', [False, True])
def test_objects_that_swap_ids_switch_twice(rle):
    truth = {7: 0, 8: 20}
    frames = [
        frame(0, truth, [(0, 0), (1, 20)], rle=rle),
        frame(1, truth, [(1, 0), (0, 20)], rle=rle),
        frame(2, truth, [(1, 0), (0, 20)], rle=rle),
    ]
    expected = {'id_switches': 2.0, 'switch_rate': 0.5, 'recall': 1.0}
    assert score(frames) == expected
    assert score(frames[::-1]) == expected


def test_a_gap_is_bridged_and_counts_as_missed():
    frames = [frame(0, {7: 0}, [(0, 0)]), frame(1, {7: 0}, []), frame(2, {7: 0}, [(0, 2)])]
    found = score(frames)
    assert found['id_switches'] == 0 and found['recall'] == pytest.approx(2 / 3)
    frames[2] = frame(2, {7: 0}, [(3, 2)])
    assert score(frames)['id_switches'] == 1


def test_poor_overlaps_low_scores_and_crowds_do_not_count():
    assert score([frame(0, {7: 0}, [(0, 5)])])['recall'] == 0
    two = [frame(0, {7: 0, 8: 20}, [(0, 0), (1, 20)])]
    assert score(two, score_threshold=0.5)['recall'] == 0.5
    assert score([frame(0, {7: 0}, [], ignore_flag=1)])['recall'] == -1
    assert score([frame(0, {}, [(0, 0)])]) == {
        'id_switches': 0.0, 'switch_rate': 0.0, 'recall': -1.0,
    }  # fmt: skip


def test_videos_are_apart():
    frames = [frame(0, {7: 0}, [(0, 0)], video=1), frame(0, {7: 0}, [(5, 0)], video=2)]
    assert score(frames)['id_switches'] == 0


def test_one_prediction_stands_for_one_object():
    found = score([frame(0, {7: 0, 8: 2}, [(0, 1)])])
    assert found['recall'] == 0.5


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match='iou_threshold'):
        IdSwitchMetric(iou_threshold=2)
    broken = frame(0, {7: 0}, [(0, 0)])
    del broken['video_data_samples'][0]['instances']
    with pytest.raises(ValueError, match='no annotations'):
        score([broken])
    assert np.isfinite(score([frame(0, {7: 0}, [])])['recall'])
    for key, value, reason in (
        ('scores', torch.tensor([torch.nan]), 'video 1, frame 0, instance 0: score nan'),
        ('instances_id', torch.tensor([0, 1]), '2 instances_id for 1 instances'),
        ('masks', None, 'video 1, frame 0: the predictions have no masks'),
    ):
        broken = frame(0, {7: 0}, [(0, 0)])
        pred = broken['video_data_samples'][0]['pred_track_instances']
        pred[key] = value
        if value is None:
            del pred[key]
        with pytest.raises(ValueError, match=reason):
            score([broken])


def test_as_many_objects_as_possible_are_found():
    """One prediction fits the first object best, but then the second object would go without."""
    frames = [frame(0, {7: 10, 8: 14}, [(0, 10), (1, 6)])]
    assert score(frames, iou_threshold=0.2)['recall'] == 1
    assert score(frames, iou_threshold=0.5)['recall'] == 0.5


def test_frames_are_put_in_order():
    frames = [frame(t, {7: 0}, [(track, 0)]) for t, track in enumerate((0, 1, 1))]
    for order in ((0, 1, 2), (2, 0, 1), (1, 0, 2)):
        assert score([frames[i] for i in order])['id_switches'] == 1
