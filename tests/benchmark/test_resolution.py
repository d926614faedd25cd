"""The benchmark of grids by size: its boxes, and that both sides compute the same."""

import pytest
import torch
from benchmark.resolution import MIXES, all_stages, boxes_of_mix, by_size
from tiny_refinemask import tiny_head

from mmrefine.refinemask.inference import GridPlan

MAP = (60, 70)


@pytest.mark.parametrize('mix', MIXES)
def test_boxes_follow_their_mix(mix: str) -> None:
    rois = boxes_of_mix(mix, 40, MAP, torch.Generator().manual_seed(0))
    assert rois.shape == (40, 5)
    assert (rois[:, 1:3] >= 0).all() and (rois[:, 3] <= 280).all() and (rois[:, 4] <= 240).all()
    longer = (rois[:, 3:] - rois[:, 1:3]).amax(1)
    low = 0
    for high, share in MIXES[mix]:
        assert int(((longer > low + 1e-3) & (longer <= high + 1e-3)).sum()) == 40 * share
        low = high


def test_both_sides_give_the_same_logits_on_the_same_grids() -> None:
    generator = torch.Generator().manual_seed(0)
    rois = boxes_of_mix('mixed', 20, MAP, generator)
    feats = torch.randn(20, 16, 14, 14, generator=generator)
    fine = torch.randn(1, 16, *MAP, generator=generator)
    head = tiny_head().eval()
    plan = GridPlan.of_config({}, head.stage_sizes)
    inputs = feats, fine, rois, torch.arange(20) % 3
    with torch.no_grad():
        ours, peer = by_size(head, inputs, plan), all_stages(head, inputs, plan)
    assert [tuple(x.shape) for x in ours] == [(5, 1, 28, 28), (5, 1, 56, 56), (10, 1, 112, 112)]
    for a, b in zip(ours, peer, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
