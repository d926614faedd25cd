"""Scores, ids and what is remembered."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_sipmask_video import found

from mmrefine.sipmask.video.tracker import (
    DROPPED,
    FrameObjects,
    MatchRule,
    TrackMemory,
    associate,
    match_scores,
    outscored,
)

SIZE = (100, 100)
RED, BLUE = [6.0, 0.0], [0.0, 6.0]


def follow(frames: list[FrameObjects], rule: MatchRule | None = None, size=SIZE) -> list[list[int]]:
    memory, ids = TrackMemory.empty(frames[0], size), []
    for detections in frames:
        named, memory = associate(memory, detections, rule or MatchRule(), size)
        ids.append(named.tolist())
    return ids


def random_frame(count: int, channels: int = 3) -> FrameObjects:
    corners = torch.rand(count, 2) * 60
    boxes = torch.cat((corners, corners + 5 + torch.rand(count, 2) * 30), dim=1)
    scores = torch.rand(count).sort(descending=True).values
    return FrameObjects(boxes, scores, torch.randint(0, 2, (count,)), torch.randn(count, channels))


def test_score_is_the_published_sum():
    before = found([[0, 0, 10, 10], [50, 50, 60, 60]], [RED, BLUE], [0, 1])
    memory = associate(TrackMemory.empty(before, SIZE), before, MatchRule(), SIZE)[1]
    now = found([[0, 0, 10, 20]], [[0.5, 0.25]], [1], score=0.8)
    products = [0.0, 3.0, 1.5]
    normal = math.log(sum(math.exp(p) for p in products))
    sure = math.log(0.8)
    expected = [
        products[0] - normal + sure + 10,
        products[1] - normal + sure + 2 * 100 / 200,
        products[2] - normal + sure + 10,
    ]
    scores = match_scores(memory, now, MatchRule())
    torch.testing.assert_close(scores, torch.tensor([expected]), rtol=1e-5, atol=1e-5)
    # With legacy pixel counting the areas are 11 x 11 and 11 x 21.
    legacy = match_scores(memory, now, MatchRule(iou_offset=1.0))
    torch.testing.assert_close(legacy[0, 1] - scores[0, 1], torch.tensor(2 * (121 / 231 - 0.5)))


def test_objects_keep_their_ids_when_they_swap_places():
    left, right = [0, 0, 20, 20], [60, 0, 80, 20]
    frames = [found([left, right], [RED, BLUE]), found([left, right], [BLUE, RED])]
    assert follow(frames) == [[0, 1], [1, 0]]
    # By place alone they change.
    assert follow(frames, MatchRule(embed_weight=0.0)) == [[0, 1], [0, 1]]


def test_a_new_look_and_place_is_a_new_object():
    frames = [found([[0, 0, 20, 20]], [RED]), found([[60, 60, 80, 80]], [[-6.0, -6.0]])]
    assert follow(frames) == [[0], [1]]


def test_an_object_that_left_through_the_border_gets_its_id_back():
    inside, edge = [70, 10, 90, 30], [95, 10, 100, 30]
    gone = found([], [RED])
    frames = [found([inside], [RED]), found([edge], [RED]), *[gone] * 20, found([inside], [RED])]
    assert follow(frames)[0] == follow(frames)[-1] == [0]


def test_the_better_of_two_takes_the_id_wherever_it_stands_in_the_list():
    box = [0.0, 0.0, 20.0, 20.0]
    near, far = [0.0, 0.0, 20.0, 20.0], [0.0, 0.0, 20.0, 40.0]
    start = found([box], [RED])
    assert follow([start, found([near, far], [RED, RED])])[1] == [0, DROPPED]
    second_better = FrameObjects(
        torch.tensor([far, near]), torch.tensor([0.5, 0.5]), torch.zeros(2).long(),
        torch.tensor([RED, RED]),
    )  # fmt: skip
    assert follow([start, second_better])[1] == [DROPPED, 0]
    # Parity: the original lets both have it.
    assert follow([start, second_better], MatchRule(share_ids=True))[1] == [0, 0]


def test_equal_detections_fall_to_the_first():
    start, box = found([[0, 0, 20, 20]], [RED]), [0.0, 0.0, 20.0, 20.0]
    twins = FrameObjects(
        torch.tensor([box, box]), torch.tensor([0.5, 0.5]), torch.zeros(2).long(),
        torch.tensor([RED, RED]),
    )  # fmt: skip
    for share in (False, True):
        assert follow([start, twins], MatchRule(share_ids=share))[1] == [0, DROPPED]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), max_size=8))
def test_every_contested_object_has_one_owner(choices):
    columns = torch.tensor([c for c, _ in choices], dtype=torch.long)
    scores = torch.tensor([float(s) for _, s in choices])
    kept = ~outscored(columns, scores, share_ids=False)
    for column in {c for c, _ in choices} - {0}:
        of_it = columns == column
        assert int((kept & of_it).sum()) == 1
        assert scores[kept & of_it] == scores[of_it].max()
    assert kept[columns == 0].all()


@settings(max_examples=20)
@given(st.integers(0, 2**31 - 1), st.lists(st.integers(0, 12), min_size=1, max_size=6))
def test_ids_are_unique_repeatable_and_bounded(seed, counts):
    torch.manual_seed(seed)
    frames = [random_frame(count) for count in counts]
    rule = MatchRule(max_objects=5)
    memory = TrackMemory.empty(frames[0], SIZE)
    given_ids = []
    for frame in frames:
        ids, memory = associate(memory, frame, rule, SIZE)
        named = [one for one in ids.tolist() if one != DROPPED]
        assert len(named) == len(set(named))
        assert memory.ids.tolist() == sorted(set(memory.ids.tolist()))
        assert set(named) <= set(memory.ids.tolist())
        assert len(memory.ids) <= max(5, len(frame.labels))
        given_ids.append(ids.tolist())
    assert given_ids == follow(frames, rule)


def test_forgotten_objects_return_under_a_new_id():
    rule = MatchRule(max_objects=2)
    places = [[0, 0, 10, 10], [30, 0, 40, 10], [60, 0, 70, 10], [0, 0, 10, 10]]
    looks = [[9.0, 0, 0], [0, 9.0, 0], [0, 0, 9.0], [9.0, 0, 0]]
    frames = [found([place], [look]) for place, look in zip(places, looks)]
    assert follow(frames, rule) == [[0], [1], [2], [3]]
    assert follow(frames) == [[0], [1], [2], [0]]


def test_hundreds_of_objects_in_a_frame_are_all_remembered_until_the_next():
    count = 150
    boxes = [[7.0 * (n % 14), 7.0 * (n // 14), 7.0 * (n % 14) + 6, 7.0 * (n // 14) + 6]
             for n in range(count)]  # fmt: skip
    frame = found(boxes, (torch.eye(count) * 5).tolist())
    ids = follow([frame, frame], MatchRule(max_objects=100))
    assert ids == [list(range(count))] * 2


def test_boxes_follow_a_change_of_the_frame_size():
    before = found([[0, 0, 20, 20]], [RED])
    memory = associate(TrackMemory.empty(before, (100, 100)), before, MatchRule(), (100, 100))[1]
    after = found([[0, 0, 40, 10]], [RED])
    ids, memory = associate(memory, after, MatchRule(), (50, 200))
    assert ids.tolist() == [0]
    assert memory.size == (50, 200)
    earlier = memory.resized((100, 100))
    torch.testing.assert_close(earlier.boxes, torch.tensor([[0.0, 0.0, 20.0, 20.0]]))


@pytest.mark.parametrize('update', [True, False])
def test_the_remembered_class_follows_the_object_unless_told_not_to(update):
    rule = MatchRule(label_weight=0.0, update_labels=update)
    before, after = found([[0, 0, 20, 20]], [RED], [0]), found([[0, 0, 20, 20]], [RED], [1])
    memory = TrackMemory.empty(before, SIZE)
    for frame in (before, after):
        ids, memory = associate(memory, frame, rule, SIZE)
    assert ids.tolist() == [0]
    assert memory.labels.tolist() == [int(update)]


def test_the_memory_holds_no_view_of_the_detections():
    frame = found([[0, 0, 20, 20]], [RED])
    memory = associate(TrackMemory.empty(frame, SIZE), frame, MatchRule(), SIZE)[1]
    kept = memory.boxes.clone()
    frame.boxes.zero_()
    frame.embeds.zero_()
    assert torch.equal(memory.boxes, kept) and memory.embeds.tolist() == [RED]
