"""One memory per video."""

import pytest
import torch
from tiny_sipmask_video import found

from mmrefine.sipmask.video.tracker import SipMaskTracker, outscored

SIZE = (100, 100)
RED, BLUE, GREEN = [9.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 9.0]
HERE, THERE = [0, 0, 20, 20], [60, 0, 80, 20]
NOTHING = found([], [RED])


def run(tracker: SipMaskTracker, *steps) -> list[list[int]]:
    return [tracker.track(video, number, seen, SIZE).tolist() for video, number, seen in steps]


def test_a_video_that_begins_with_an_empty_frame_begins_anew():
    steps = [
        ('a', 0, found([HERE, THERE], [RED, BLUE])),
        ('b', 0, NOTHING),
        ('b', 1, found([THERE], [BLUE])),
    ]
    assert run(SipMaskTracker(), *steps) == [[0, 1], [], [0]]
    # Parity: the original goes on with the memory of the video before.
    legacy = SipMaskTracker(keep_memory_without_detections=True)
    assert run(legacy, *steps) == [[0, 1], [], [1]]


def test_a_score_at_the_limit_is_kept():
    seen = found([HERE, THERE], [RED, BLUE], score=0.5)  # and 0.25
    assert run(SipMaskTracker(min_score=0.5), ('a', 0, seen)) == [[0, -1]]


def test_a_video_without_objects_leaves_nothing():
    tracker = SipMaskTracker()
    assert run(tracker, *[('a', number, NOTHING) for number in range(5)]) == [[]] * 5
    assert len(tracker.memory('a').ids) == 0
    assert run(tracker, ('b', 0, found([HERE], [RED]))) == [[0]]


def test_videos_of_one_frame_do_not_meet():
    tracker = SipMaskTracker()
    seen = found([HERE], [RED])
    assert run(tracker, *[(video, 0, seen) for video in 'abc']) == [[0]] * 3


def test_interleaved_videos_are_tracked_as_if_alone():
    first = [found([HERE, THERE], [RED, BLUE]), found([THERE, HERE], [RED, BLUE])]
    second = [found([HERE], [GREEN]), found([HERE, THERE], [BLUE, GREEN])]
    alone = [
        run(SipMaskTracker(), *[(0, number, seen) for number, seen in enumerate(video)])
        for video in (first, second)
    ]
    mixed = run(
        SipMaskTracker(),
        ('a', 0, first[0]), ('b', 0, second[0]), ('a', 1, first[1]), ('b', 1, second[1]),
    )  # fmt: skip
    assert [mixed[0::2], mixed[1::2]] == alone


def test_a_frame_out_of_order_is_refused_and_changes_nothing():
    tracker = SipMaskTracker()
    seen = found([HERE], [RED])
    run(tracker, ('a', 0, seen), ('a', 5, seen))
    before = tracker.memory('a')
    for number in (3, 5):
        with pytest.raises(ValueError, match=f"frame {number} of video 'a' came after frame 5"):
            tracker.track('a', number, found([THERE], [BLUE]), SIZE)
    assert tracker.memory('a') is before
    assert run(tracker, ('a', 9, seen)) == [[0]]


def test_the_first_frame_again_begins_the_video_anew():
    tracker = SipMaskTracker()
    run(tracker, ('a', 4, found([HERE], [RED])), ('a', 5, found([THERE], [BLUE])))
    assert run(tracker, ('a', 4, found([THERE], [BLUE]))) == [[0]]


def test_only_the_videos_used_last_are_remembered():
    tracker = SipMaskTracker(max_videos=3)
    seen = found([HERE], [RED])
    for video in range(10):
        tracker.track(video, 0, seen, SIZE)
        tracker.track(0, video, seen, SIZE)
    kept = [video for video in range(10) if tracker.memory(video) is not None]
    assert kept == [0, 8, 9]


def test_reset_forgets_everything():
    tracker = SipMaskTracker()
    run(tracker, ('a', 0, found([HERE], [RED])))
    tracker.reset()
    assert tracker.memory('a') is None


def test_memory_stays_flat_over_two_thousand_frames():
    tracker, sizes = SipMaskTracker(max_objects=32), set()
    looks = (torch.eye(64) * 9).tolist()
    for number in range(2000):
        place = number % 50
        box = [10.0 * (place % 10), 10.0 * (place // 10)]
        seen = found([[*box, box[0] + 8, box[1] + 8]], [looks[number % 64]])
        assert tracker.track('a', number, seen, SIZE).tolist() == [number]
        if number >= 40:
            tensors = tracker.memory('a')[:5]
            sizes.add(tuple(tensor.untyped_storage().nbytes() for tensor in tensors))
    assert sizes == {(32 * 8, 32 * 16, 32 * 8, 32 * 64 * 4, 32 * 8)}


def test_weak_detections_neither_take_nor_become_objects():
    # Scores 0.9 and 0.45; the second frame's only detection has 0.1.
    steps = [
        ('a', 0, found([HERE, THERE], [RED, BLUE])),
        ('a', 1, found([HERE], [RED], score=0.1)),
        ('a', 2, found([HERE, THERE], [RED, BLUE])),
    ]
    tracker = SipMaskTracker(min_score=0.5)
    assert run(tracker, *steps) == [[0, -1], [-1], [0, -1]]
    assert tracker.memory('a').ids.tolist() == [0]
    assert tracker.memory('a').last_seen.tolist() == [2]
    assert run(SipMaskTracker(), *steps) == [[0, 1], [0], [0, 1]]


@pytest.mark.parametrize(
    'options',
    [
        {'match_weights': {'det_scores': 1.0}}, {'max_objects': 0}, {'max_videos': 0},
        {'min_score': 20},
    ],
)  # fmt: skip
def test_wrong_settings_are_refused(options):
    with pytest.raises(ValueError, match=r'det_scores|at least 1|\[0, 1\]'):
        SipMaskTracker(**options)


@pytest.mark.parametrize('share_ids', [False, True])
def test_of_equal_detections_the_first_keeps_the_object(share_ids):
    columns, scores = torch.tensor([1, 2, 1, 0, 0]), torch.tensor([0.5, 0.5, 0.5, 0.9, 0.9])
    lost = outscored(columns, scores, share_ids)
    assert lost.tolist() == [False, False, True, False, False]
