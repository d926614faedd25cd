"""Grids by size of the box against all stages for every box: same weights, same masks per grid.

The peer runs every RoI to the 112 grid, as published. Ours stops each at the first grid that has a
cell for every pixel of its box. What is compared is what must be equal: the fused logits of each
RoI on its grid, which the peer passes on its way to the finest one.
"""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from mmengine.registry import init_default_scope
from torch import Tensor

from mmrefine.layers import roi_align
from mmrefine.refinemask.inference import FIRST_FUSED, GridPlan, InferenceSettings, refine
from mmrefine.refinemask.mask_head import RefineMaskHead

from .harness import Row, compare
from .refinemask import FINE_MAP

CHUNK = 16
# Share of boxes with a longer side up to each number of pixels, network input.
MIXES = {
    'small': ((28, 0.75), (56, 0.2), (112, 0.05)),
    'mixed': ((28, 0.25), (56, 0.25), (112, 0.25), (224, 0.25)),
}


def boxes_of_mix(
    mix: str, count: int, map_size: tuple[int, int], generator: torch.Generator
) -> Tensor:
    """Draw RoIs whose longer sides follow a mix: Tensor[count, 5] in image 0.

    Args:
        mix: Key of ``MIXES``.
        count: A multiple of 20, or the shares do not add up to it.
        map_size: Height and width of the stride-4 map.
        generator: Source of the numbers.
    """
    low, sides = 8, []
    for high, share in MIXES[mix]:
        part = torch.rand(round(share * count), generator=generator)
        sides.append(low + part * (high - low))
        low = high
    longer = torch.cat(sides)[torch.randperm(count, generator=generator)]
    extent = torch.stack([longer, longer * (0.5 + 0.5 * torch.rand(count, generator=generator))], 1)
    room = torch.tensor([4.0 * map_size[1], 4.0 * map_size[0]]) - extent
    corner = torch.rand(count, 2, generator=generator) * room
    return torch.cat([torch.zeros(count, 1), corner, corner + extent], 1)


def _scene(
    mix: str, count: int, classes: int, map_size: tuple[int, int], device: str
) -> tuple[RefineMaskHead, tuple[Tensor, ...]]:
    """A head of random weights, and RoI features, fine map, RoIs and labels for it."""
    init_default_scope('mmdet')
    torch.manual_seed(0)
    head = RefineMaskHead(num_classes=classes).eval()
    generator = torch.Generator().manual_seed(count)
    fine = torch.randn(1, 256, *map_size, generator=generator)
    rois = boxes_of_mix(mix, count, map_size, generator)
    labels = torch.randint(classes, (count,), generator=generator)
    inputs = roi_align(fine, rois, 14, 0.25), fine, rois, labels
    return head.to(device), tuple(x.to(device) for x in inputs)


def by_size(head: RefineMaskHead, inputs: tuple[Tensor, ...], plan: GridPlan) -> list[Tensor]:
    """Fused logits of each grid in use, coarse to fine."""
    groups = head.fused_masks(*inputs, InferenceSettings(CHUNK, plan=plan))
    return [group.logits for group in groups]


def all_stages(head: RefineMaskHead, inputs: tuple[Tensor, ...], plan: GridPlan) -> list[Tensor]:
    """Every RoI to the finest grid; of each, the fused logits on the grid of the plan."""
    feats, fine, rois, labels = inputs
    semantic = head.semantic_path(fine)
    choice = plan.choose(rois)
    fused: list[list[Tensor]] = [[] for _ in plan.sizes]
    chunks = zip(*(x.split(CHUNK) for x in (feats, rois, labels, choice)))
    for chunk_feats, chunk_rois, chunk_labels, chosen in chunks:
        stage_logits = head.instance_path(chunk_feats, *semantic, chunk_rois, chunk_labels)
        current = stage_logits[FIRST_FUSED].float()
        for index, logits in enumerate(stage_logits[FIRST_FUSED:]):
            current = refine(current, logits) if index else current
            fused[index].append(current[chosen == index])
    return [torch.cat(parts) for parts in fused if sum(map(len, parts))]


@torch.no_grad()
def resolution(device: str, quick: bool = False) -> Iterator[Row]:
    """Grids by size: mask head on boxes of two mixes of sizes, equal logits per grid."""
    count, classes, size = (20, 3, (60, 60)) if quick else (100, 80, FINE_MAP)
    for mix in MIXES:
        head, inputs = _scene(mix, count, classes, size, device)
        plan = GridPlan.of_config({}, head.stage_sizes)
        used = torch.bincount(plan.choose(inputs[2]), minlength=len(plan.sizes)).tolist()
        ours: Callable[[], list[Tensor]] = partial(by_size, head, inputs, plan)
        yield compare(
            'resolution',
            f'mask head by size, {count} RoIs, {mix} boxes, P2 {size[0]}x{size[1]}',
            ours,
            partial(all_stages, head, inputs, plan),
            device=device,
            tolerance=2e-3,
            details=dict(rois_per_grid=dict(zip(map(str, plan.sizes), used))),
        )


BENCHMARKS = {'resolution': resolution}
