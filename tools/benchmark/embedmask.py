"""EmbedMask's kernel, Lovász hinge and mask loss against the original formulation.

Peers broadcast K x H x W x D differences, loop over objects, sort every cell and make targets by
interpolation, as the original loss file does; written here from its description.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData
from torch import Tensor

from mmrefine.embedmask.kernel import mask_exponent
from mmrefine.embedmask.losses import EmbedMaskLoss, lovasz_from_exponent
from mmrefine.embedmask.mask_head import double
from mmrefine.embedmask.targets import Proposals

from .harness import Row, compare

SIZE = (200, 336)
DIMS = 16
CLAMP = 1e-9


def peer_probability(pixels: Tensor, embeds: Tensor, margins: Tensor) -> Tensor:
    """Tensor[D, H, W], Tensor[K, D], Tensor[K, D] -> Tensor[K, H, W], by broadcasting."""
    cells = pixels.permute(1, 2, 0)
    difference = cells[None] - embeds[:, None, None]
    return torch.exp(-torch.sum(difference**2 * margins[:, None, None], dim=3))


def peer_lovasz(probability: Tensor, target: Tensor) -> Tensor:
    """Lovász hinge of one object: Tensor[N], float Tensor[N] -> scalar; sorts every cell."""
    probability = probability.clamp(CLAMP, 1 - CLAMP)
    logits = torch.log(probability) - torch.log(1 - probability)
    errors = 1.0 - logits * (2.0 * target - 1.0)
    ordered, order = torch.sort(errors, dim=0, descending=True)
    truth = target[order]
    total = truth.sum()
    jaccard = 1.0 - (total - truth.cumsum(0)) / (total + (1 - truth).cumsum(0))
    weights = torch.cat((jaccard[:1], jaccard[1:] - jaccard[:-1]))
    return torch.dot(F.relu(ordered), weights.detach())


def peer_targets(masks: Tensor) -> Tensor:
    """BoolTensor[G, H, W] -> float Tensor[G, H / 4, W / 4] by interpolation, object by object."""
    scaled = [
        F.interpolate(m[None, None].float(), scale_factor=0.25, mode='bilinear') for m in masks
    ]
    return (torch.cat(scaled)[:, 0] > 0).float()


def peer_best(overlap: Tensor, groups: Tensor, count: int) -> list[int]:
    """Position of the best proposal of each object, one object at a time."""
    best = []
    for group in range(count):
        mine = (groups == group).nonzero()[:, 0]
        values = overlap[mine]
        best.append(int(mine[(values == values.max()).nonzero()[0][0]]))
    return best


def _gradients(function: Callable[[], Tensor], leaves: list[Tensor]) -> dict[str, Tensor]:
    loss = function()
    grads = torch.autograd.grad(loss, leaves)
    return dict(loss=loss.detach(), **{str(i): g for i, g in enumerate(grads)})


def scene(num: int, device: str, noise: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Discs whose pixels lie around their proposal's embedding.

    Args:
        num: Objects K.
        device: Where to.
        noise: Spread of the pixel embeddings; a trained network's is small.

    Returns:
        Pixels Tensor[D, h, w] at stride 8, embeddings and margins Tensor[K, D], masks
        BoolTensor[K, H, W] at full size.
    """
    generator = torch.Generator().manual_seed(num)
    height, width = SIZE[0] * 4, SIZE[1] * 4
    ys, xs = torch.meshgrid(torch.arange(height), torch.arange(width), indexing='ij')
    centers = torch.rand(num, 2, generator=generator) * torch.tensor([height, width])
    radii = 40 + 80 * torch.rand(num, generator=generator)
    masks = torch.stack([(ys - y) ** 2 + (xs - x) ** 2 < r**2 for (y, x), r in zip(centers, radii)])
    embeds = torch.randn(num, DIMS, generator=generator)
    margins = 0.2 + 0.1 * torch.rand(num, DIMS, generator=generator)
    pixels = torch.randn(DIMS, SIZE[0] // 2, SIZE[1] // 2, generator=generator) * noise
    pixels[0] += 3
    for mask, embed in zip(masks[:, 4::8, 4::8], embeds):
        pixels[:, mask] = embed[:, None] + noise * pixels[:, mask]
    return tuple(t.to(device) for t in (pixels, embeds, margins, masks))


def kernel_rows(device: str, repeats: int, sizes: Sequence[int] = (5, 20, 50)) -> list[Row]:
    """Forward and backward of the kernel, for numbers of objects."""
    rows = []
    for num in sizes:
        pixels, embeds, margins, _ = scene(num, device, 0.3)
        leaves = [double(pixels[None])[0].requires_grad_(), embeds.requires_grad_()]
        leaves.append(margins.requires_grad_())
        weight = torch.randn(num, *SIZE, device=device)

        def ours(leaves: list[Tensor] = leaves, weight: Tensor = weight) -> dict[str, Tensor]:
            maps = torch.exp(-mask_exponent(*leaves))
            return _gradients(lambda: (maps * weight).mean(), leaves)

        def peer(leaves: list[Tensor] = leaves, weight: Tensor = weight) -> dict[str, Tensor]:
            maps = peer_probability(*leaves)
            return _gradients(lambda: (maps * weight).mean(), leaves)

        def forward(leaves: list[Tensor] = leaves) -> Tensor:
            with torch.no_grad():
                return torch.exp(-mask_exponent(*leaves))

        def peer_forward(leaves: list[Tensor] = leaves) -> Tensor:
            with torch.no_grad():
                return peer_probability(*leaves)

        options = dict(device=device, tolerance=1e-4, repeats=repeats)
        name = f'kernel K={num} at {SIZE[0]}x{SIZE[1]}'
        rows.append(compare('B4', f'{name}, forward', forward, peer_forward, **options))
        rows.append(compare('B4', f'{name}, forward and backward', ours, peer, **options))
    return rows


def lovasz_rows(device: str, repeats: int, num: int = 20) -> list[Row]:
    """Hinge of K objects from exponents, at shares of cells with a positive error."""
    rows = []
    cells = SIZE[0] * SIZE[1]
    generator = torch.Generator().manual_seed(0)
    for share in (0.35, 0.02):
        targets = torch.rand(num, cells, generator=generator) < 0.05
        wrong = torch.rand(num, cells, generator=generator) < share
        random = torch.rand(num, cells, generator=generator)
        # right foreground has d < 0.31, right background d > 1.31
        exponent = torch.where(targets ^ wrong, 0.01 + 0.29 * random, 1.4 + 10 * random)
        exponent, targets = exponent.to(device).requires_grad_(), targets.to(device)
        truth = targets.float()

        def ours(exponent: Tensor = exponent, targets: Tensor = targets) -> dict[str, Tensor]:
            return _gradients(lambda: lovasz_from_exponent(exponent, targets).sum(), [exponent])

        def peer(exponent: Tensor = exponent, truth: Tensor = truth) -> dict[str, Tensor]:
            probability = torch.exp(-exponent)
            return _gradients(
                lambda: torch.stack([peer_lovasz(*pair) for pair in zip(probability, truth)]).sum(),
                [exponent],
            )

        rows.append(
            compare(
                'B4',
                f'Lovász hinge K={num}, {share:.0%} of the cells in error',
                ours,
                peer,
                device=device,
                tolerance=1e-3,
                repeats=repeats,
            )
        )
    return rows


def loss_rows(device: str, repeats: int, sizes: Sequence[int] = (5, 20, 50)) -> list[Row]:
    """Whole v3 mask loss of one image: choice, targets, enlarging, kernel, hinge, all gradients."""
    rows = []
    for num in sizes:
        for state, noise in (('start of training', 1.0), ('trained', 0.1)):
            pixels, embeds, margins, masks = scene(num, device, noise)
            rows.append(_loss_row(num, state, pixels, embeds, margins, masks, device, repeats))
    return rows


def _loss_row(
    num: int,
    state: str,
    pixels: Tensor,
    embeds: Tensor,
    margins: Tensor,
    masks: Tensor,
    device: str,
    repeats: int,
) -> Row:
    per_object = 12
    groups = torch.arange(num, device=device).repeat(per_object)
    overlap = torch.rand(len(groups), device=device)
    leaves = [
        pixels.requires_grad_(),
        embeds.repeat(per_object, 1).requires_grad_(),
        margins.repeat(per_object, 1).requires_grad_(),
    ]
    boxes = torch.zeros(num, 4, device=device)
    gt = InstanceData(bboxes=boxes, masks=masks, labels=groups[:num])
    loss = EmbedMaskLoss(loss_weight=1.0)

    def ours() -> dict[str, Tensor]:
        proposals = Proposals(leaves[1][None], leaves[2][None], groups[None], overlap[None])
        enlarged = double(leaves[0][None])
        return _gradients(lambda: loss(enlarged, proposals, [gt])['loss_mask'], leaves)

    def peer() -> dict[str, Tensor]:
        enlarged = F.interpolate(leaves[0][None], scale_factor=2, mode='bilinear')[0]
        targets = peer_targets(masks)
        best = peer_best(overlap, groups, num)
        maps = peer_probability(enlarged, leaves[1][best], leaves[2][best])
        pairs = zip(maps.flatten(1), targets.flatten(1))
        return _gradients(lambda: torch.stack([peer_lovasz(*p) for p in pairs]).mean(), leaves)

    return compare(
        'B4',
        f'mask loss K={num} at {SIZE[0]}x{SIZE[1]}, {state}',
        ours,
        peer,
        device=device,
        tolerance=1e-3,
        repeats=repeats,
    )


def benchmark_loss(device: str = 'cpu', repeats: int = 3, quick: bool = False) -> list[Row]:
    """All rows of B4."""
    if quick:
        few = (2,)
        return [
            *kernel_rows(device, 1, few),
            *lovasz_rows(device, 1, 2),
            *loss_rows(device, 1, few),
        ]
    return [
        *kernel_rows(device, repeats),
        *lovasz_rows(device, repeats),
        *loss_rows(device, repeats),
    ]


BENCHMARKS = {'B4': benchmark_loss}
