"""SipMask's box-sliced masks against the dense form.

The dense peer is the original's formulation, k * k maps of the whole image for every object, their
sigmoid, then the crop, with the rule of its CUDA kernels compiled for the CPU. On a GPU there is no
such peer and nothing is measured.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData
from torch import Tensor

from mmrefine.sipmask.assembly import pixel_logits, pixel_values, split_boxes
from mmrefine.sipmask.losses import weighted_mask_loss

from .crop_kernel import crop_split, crop_split_gt
from .harness import Row, compare

SIZE = (400, 672)
BASES = 32
THRESHOLD = 0.4
# Mean share of a COCO object's box in its photo.
MEAN_SHARE = 0.06


def draw_boxes(count: int, size: tuple[int, int], device: str) -> Tensor:
    """Boxes Tensor[count, 4] inside a map, log-normal areas with the mean of COCO's objects."""
    generator = torch.Generator().manual_seed(1)
    share = (torch.randn(count, generator=generator) * 1.5).exp()
    share = (share / share.mean() * MEAN_SHARE).clamp(max=0.9)
    aspect = (torch.randn(count, generator=generator) * 0.4).exp()
    height, width = size
    sides = torch.stack(
        (
            ((share * aspect).sqrt().clamp(max=1) * width),
            (share / aspect).sqrt().clamp(max=1) * height,
        ),
        dim=1,
    )
    room = torch.tensor([width, height]) - sides
    corner = torch.rand(count, 2, generator=generator) * room
    return torch.cat((corner, corner + sides), dim=1).to(device)


def scene(count: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Basis Tensor[S, H, W], coefficients Tensor[N, 4, S], half-resolution boxes Tensor[N, 4]."""
    generator = torch.Generator().manual_seed(0)
    basis = torch.rand(BASES, *SIZE, generator=generator).to(device)
    coeffs = (torch.randn(count, 4, BASES, generator=generator) * 0.3).to(device)
    return basis, coeffs, draw_boxes(count, SIZE, device)


def dense_masks(basis: Tensor, coeffs: Tensor, boxes: Tensor) -> Tensor:
    """Probabilities Tensor[H, W, N], 0 outside the boxes, by the dense form."""
    cells = [
        (basis.permute(1, 2, 0) @ coeffs[:, cell].t()).sigmoid() for cell in range(coeffs.shape[1])
    ]
    return crop_split(torch.stack(cells), boxes)


def assembly_rows(device: str, count: int = 100) -> list[Row]:
    """Binary masks of detections."""
    basis, coeffs, boxes = scene(count, device)
    pixels = split_boxes(boxes, SIZE, 2)

    def ours() -> list[Tensor]:
        pixels = split_boxes(boxes, SIZE, 2)
        chosen = pixel_logits(basis, coeffs, pixels).sigmoid() > THRESHOLD
        return [crop.float() for crop in pixels.crops(chosen)]

    def peer() -> list[Tensor]:
        masks = dense_masks(basis, coeffs, boxes) > THRESHOLD
        cuts = zip(pixels.corners, pixels.shapes)
        return [masks[y : y + h, x : x + w, n].float() for n, ((x, y), (h, w)) in enumerate(cuts)]

    return [compare('B3', f'assembly, N = {count}, 400 x 672', ours, peer, device=device)]


def training_rows(device: str, count: int = 300) -> list[Row]:
    """Mask loss and gradients of positives; gradients relative to their largest value."""
    basis, coeffs, boxes = scene(count, device)
    basis.requires_grad_()
    coeffs.requires_grad_()
    generator = torch.Generator().manual_seed(2)
    objects = (torch.rand(10, *SIZE, generator=generator) > 0.5).to(device)
    owners = torch.randint(0, 10, (count,), generator=generator).to(device)
    weights = torch.rand(count, generator=generator).to(device)
    samples = InstanceData(bboxes=boxes * 2, weights=weights)

    def step(loss: Tensor) -> list[Tensor]:
        grads = torch.autograd.grad(loss, (basis, coeffs))
        return [loss.detach(), *(grad / grad.abs().max() for grad in grads)]

    def ours() -> list[Tensor]:
        pixels = split_boxes(boxes, SIZE, 2)
        inside = pixel_values(objects, owners, pixels)
        logits = pixel_logits(basis, coeffs, pixels)
        return step(weighted_mask_loss(logits, inside, pixels, samples))

    def peer() -> list[Tensor]:
        predicted = dense_masks(basis, coeffs, boxes)
        target = crop_split_gt(objects[owners].permute(1, 2, 0).float(), boxes)
        each = F.binary_cross_entropy(predicted, target, reduction='none').sum(dim=(0, 1))
        sides = boxes[:, 2:] - boxes[:, :2]
        return step((weights * each / sides[:, 0] / sides[:, 1] / len(boxes)).sum())

    case = f'mask loss and gradients, {count} positives, 400 x 672'
    return [compare('B3', case, ours, peer, device=device, tolerance=1e-4, repeats=2)]


def b3(device: str, quick: bool = False) -> Iterator[Row]:
    """Mask assembly, then mask loss; on the CPU only."""
    if device != 'cpu':
        return
    yield from assembly_rows(device, 3 if quick else 100)
    yield from training_rows(device, 5 if quick else 300)


BENCHMARKS = {'B3': b3}
