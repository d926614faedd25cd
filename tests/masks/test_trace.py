"""The bound on rounding, on which the choice of the pixels to evaluate one by one rests."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmrefine.masks import roi, trace


def both_values(masks: Tensor, boxes: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Random pixels of every mask: owner, their value on our lines, and by ``grid_sample``."""
    n, side = masks.shape[:2]
    owner = torch.arange(n).repeat_interleave(count)
    box = boxes[owner]
    x, y = (torch.lerp(box[:, a], box[:, a + 2], torch.rand(n * count)).long() for a in (0, 1))
    columns, rows = (
        ((roi._normalise(p, box[:, a], box[:, a + 2]) + 1) * side + 1) / 2
        for a, p in ((0, x), (1, y))
    )
    within = ((columns >= 0) & (rows >= 0) & (columns < side + 1) & (rows < side + 1)).nonzero()[
        :, 0
    ]
    owner, x, y, columns, rows = (v[within] for v in (owner, x, y, columns, rows))
    knots = F.pad(masks.mT, (1, 1, 1, 1)).flatten(0, 1)
    left, above = columns.floor().long(), rows.floor().long()
    lines = trace.mix_lines(knots, owner * (side + 2) + left, columns - left)
    first, second = (lines[torch.arange(len(owner)), above + i] for i in (0, 1))
    ours = first + (rows - above) * (second - first)
    return owner, ours, roi._sample(masks, boxes, owner, x, y)


@pytest.mark.parametrize('side', [7, 28, 112])
def test_values_differ_by_less_than_the_bound_but_not_by_much_less(side: int) -> None:
    generator = torch.Generator().manual_seed(side)
    worst = 0.0
    for trial in range(40):
        masks = torch.rand(4, side, side, generator=generator)
        masks = (masks > 0.5).float() if trial % 2 else masks
        low, extent = torch.rand(2, 4, 2, generator=generator)
        low, extent = low * 2000, extent * (3000 if trial % 5 else 100) + 1
        boxes = torch.cat([low, low + extent], 1)
        owner, ours, theirs = both_values(masks, boxes, 400)
        bound = trace.rounding_error(side, masks.flatten(1).amax(1))[owner]
        worst = max(worst, float(((ours - theirs).abs() / bound).max()))
    assert 1 / 50 < worst < 1
