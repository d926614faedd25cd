"""Mask targets, semantic targets, and the choice of proposals."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrefine.embedmask.targets import (
    best_of_group,
    dilated_targets,
    mask_centroids,
    overlapping_of_group,
    sampled_targets,
    semantic_targets,
)


@settings(max_examples=30)
@given(st.integers(0, 3), st.integers(1, 5), st.integers(1, 5), st.integers(0, 1000))
def test_dilated_targets_equal_bilinear_scaling_above_zero(objects, height, width, seed):
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(objects, 4 * height, 4 * width, generator=generator) < 0.15
    expected = torch.zeros(objects, height, width, dtype=torch.bool)
    if objects:
        scaled = F.interpolate(masks[:, None].float(), scale_factor=0.25, mode='bilinear')
        expected = scaled[:, 0] > 0
    assert torch.equal(dilated_targets(masks), expected)


def test_sampled_targets_read_the_third_pixel_of_every_four():
    masks = torch.zeros(1, 8, 8, dtype=torch.bool)
    masks[0, 2, 6] = True
    assert sampled_targets(masks).tolist() == [[[False, True], [False, False]]]


def test_smallest_object_owns_a_semantic_cell():
    masks = torch.zeros(2, 16, 16, dtype=torch.bool)
    masks[0] = True
    masks[1, 2:6, 2:6] = True
    labels = torch.tensor([3, 1])
    assert semantic_targets(masks, labels, 9).tolist() == [[1, 3], [3, 3]]
    assert semantic_targets(masks[:0], labels[:0], 9).tolist() == [[9, 9], [9, 9]]


def test_centroids_are_mean_pixel_positions_and_defined_for_empty_masks():
    masks = torch.zeros(2, 5, 7)
    masks[0, 1:3, 4] = 1
    assert mask_centroids(masks).tolist() == [[4.0, 1.5], [0.0, 0.0]]
    assert mask_centroids(masks[:0]).shape == (0, 2)


scores_and_groups = st.lists(
    st.tuples(st.sampled_from([0.0, 0.2, 0.5, 0.7, 1.0]), st.integers(0, 3)), max_size=12
)


@settings(max_examples=60)
@given(scores_and_groups)
def test_best_is_the_first_highest_of_its_group(pairs):
    scores = torch.tensor([s for s, _ in pairs])
    groups = torch.tensor([g for _, g in pairs], dtype=torch.long)
    expected = [
        i
        == max((j for j in range(len(pairs)) if pairs[j][1] == g), key=lambda j: (pairs[j][0], -j))
        for i, (_, g) in enumerate(pairs)
    ]
    assert best_of_group(scores, groups, 4).tolist() == expected


@settings(max_examples=60)
@given(scores_and_groups)
def test_overlapping_are_above_the_threshold_or_the_best(pairs):
    scores = torch.tensor([s for s, _ in pairs])
    groups = torch.tensor([g for _, g in pairs], dtype=torch.long)
    expected = []
    for score, group in pairs:
        top = max(s for s, g in pairs if g == group)
        expected.append(score > 0.5 if top > 0.5 else score == top)
    assert overlapping_of_group(scores, groups, 4, 0.5).tolist() == expected


def test_nan_overlap_of_one_object_leaves_the_others_their_proposal():
    scores = torch.tensor([float('nan'), 0.3, 0.6])
    keep = best_of_group(scores, torch.tensor([0, 1, 1]), 2)
    assert keep[1:].tolist() == [False, True]


@pytest.mark.parametrize('groups', [0, 3])
def test_no_proposals_choose_nothing(groups):
    empty = torch.zeros(0)
    assert best_of_group(empty, empty.long(), groups).shape == (0,)
    assert overlapping_of_group(empty, empty.long(), groups, 0.5).shape == (0,)
