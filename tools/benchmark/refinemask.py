"""RefineMask's mask head and targets against the original formulation, with the same weights.

The peer computes what the original computes, no slower: logits of all classes at every stage, of
which one is kept; one pass over the whole map per chunk of 100 RoIs; boolean-mask writes; per-RoI,
per-size target loops.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from mmcv.ops import roi_align as mmcv_roi_align
from mmdet.structures.mask import PolygonMasks
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from mmrefine.layers import boundary_map, roi_align
from mmrefine.refinemask.inference import InferenceSettings, binarise
from mmrefine.refinemask.mask_head import RefineMaskHead
from mmrefine.refinemask.targets import multi_size_targets

from .harness import Row, compare

FINE_MAP = (200, 336)  # stride-4 map of an 800 x 1344 image
STAGE_WEIGHTS = [0.25, 0.5, 0.75, 1.0]


def _random_rois(count: int, generator: torch.Generator, size: tuple[int, int]) -> Tensor:
    height, width = (4 * side for side in size)
    centre = torch.rand(count, 2, generator=generator) * torch.tensor([width, height])
    half = torch.exp(torch.empty(count, 2).uniform_(2.5, 5.3, generator=generator)) / 2
    boxes = torch.cat([centre - half, centre + half], 1).clamp(min=0)
    boxes = torch.minimum(boxes, torch.tensor([width, height, width, height]))
    return torch.cat([torch.zeros(count, 1), boxes], 1)


def _all_classes(x: Tensor, layer: nn.Conv2d, labels: Tensor) -> Tensor:
    """Logits of every class, one of them kept."""
    logits = F.conv2d(x, layer.weight, layer.bias)
    clamped = labels.clamp(max=logits.shape[1] - 1)
    return logits[torch.arange(len(x), device=x.device), clamped][:, None]


def _plain_conv(x: Tensor, layer: nn.Conv2d) -> Tensor:
    return F.relu(F.conv2d(x, layer.weight, layer.bias, padding=layer.padding), inplace=True)


def _branches(block: nn.Module, x: Tensor) -> Tensor:
    first, second, third = (getattr(block, f'dilation_conv_{i}') for i in (1, 2, 3))
    return block.merge_conv(first(x) + second(x) + third(x))


def upsample(x: Tensor) -> Tensor:
    """Twice as many pixels, corners aligned."""
    return F.interpolate(x, scale_factor=2, mode='bilinear', align_corners=True)


def original_forward(
    head: RefineMaskHead, roi_feats: Tensor, fine_feat: Tensor, rois: Tensor, labels: Tensor
) -> tuple[list[Tensor], Tensor]:
    """Stage logits and foreground logits in the original's order of operations; arguments as in
    ``RefineMaskHead.forward``."""
    x, semantic = roi_feats, fine_feat
    for block in head.instance_convs:
        x = _plain_conv(x, block.conv)
    for block in head.semantic_convs:
        semantic = _plain_conv(semantic, block.conv)
    layer = head.semantic_logits
    foreground_logits = F.conv2d(semantic, layer.weight, layer.bias)
    foreground = foreground_logits.sigmoid()
    predictions = []
    for stage in head.stages:
        size = x.shape[-1]
        feats = F.relu(stage.semantic_transform_in(semantic), inplace=True)
        feats = mmcv_roi_align(feats, rois, size, 0.25, 0, 'avg', True)
        feats = F.relu(stage.semantic_transform_out(feats), inplace=True)
        logits = _all_classes(x, stage.instance_logits, labels)
        predictions.append(logits)
        mask = logits.sigmoid()
        context = mmcv_roi_align(foreground, rois, size, 0.25, 0, 'avg', True)
        fused = torch.cat([x, feats, mask, context], 1)
        reduce, block = stage.fuse_conv
        fused = F.relu(reduce(fused), inplace=True)
        fused = F.relu(_branches(block, fused), inplace=True)
        fused = F.relu(stage.fuse_transform_out(fused), inplace=True)
        fused = F.interpolate(fused, scale_factor=2, mode='bilinear', align_corners=False)
        fused = F.relu(fused, inplace=True)
        x = torch.cat([fused, upsample(mask), upsample(context)], 1)
    predictions.append(_all_classes(x, head.final_instance_logits, labels))
    return predictions, foreground_logits


def original_fusion(predictions: Sequence[Tensor]) -> Tensor:
    """Test-time fusion with boolean-mask writes."""
    fused = predictions[1]
    for logits in predictions[2:]:
        inside = 1 - original_boundary(fused.sigmoid() >= 0.5, 1).float()
        keep = upsample(inside) >= 0.5
        logits = logits.clone()
        logits[keep] = upsample(fused)[keep]
        fused = logits
    return fused


def original_boundary(masks: Tensor, width: int) -> Tensor:
    """Boundary map by a Laplacian-like kernel on the mask and on its complement."""
    side = 2 * width + 1
    kernel = -torch.ones(1, 1, side, side, device=masks.device)
    kernel[..., width, width] = side * side - 1
    planes = masks.float()
    inner = F.conv2d(planes, kernel, padding=width).clamp(min=0) / side**2 > 0.1
    padded = F.pad(planes, (width,) * 4)
    outer = F.conv2d(1 - padded, kernel).clamp(min=0) / side**2 > 0.1
    return inner | outer


def random_head(classes: int, device: str) -> RefineMaskHead:
    """A head of random weights."""
    init_default_scope('mmdet')
    torch.manual_seed(0)
    return RefineMaskHead(num_classes=classes).eval().to(device)


def _blobs(size: tuple[int, int]) -> Tensor:
    """Map of blobs with sharp edges, values near -1 and 1: Tensor[1, 1, H, W]."""
    noise = torch.randn(1, 1, 13, 21, generator=torch.Generator().manual_seed(0))
    return torch.tanh(20 * F.interpolate(noise, size, mode='bicubic'))


def head_inputs(
    count: int, classes: int, device: str, size: tuple[int, int] = FINE_MAP
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """RoI features, fine map, RoIs, labels; the map shows blobs through 256 noisy channels."""
    generator = torch.Generator().manual_seed(count)
    blobs = _blobs(size)
    gain = torch.randn(1, 256, 1, 1, generator=generator)
    fine = blobs * gain + 0.02 * torch.randn(1, 256, *size, generator=generator)
    rois = _random_rois(count, generator, size)
    labels = torch.randint(classes, (count,), generator=generator)
    feats = roi_align(fine, rois, 14, 0.25)
    return tuple(x.to(device) for x in (feats, fine, rois, labels))


@torch.no_grad()
def _fit_logits(head: RefineMaskHead, inputs: tuple[Tensor, ...]) -> None:
    """Give every logit layer weights that find the blobs, by ridge regression.

    Masks of random weights are noise around the threshold, where any rounding flips pixels; those
    of a trained head are not. Without the ridge, a few RoIs leave huge weights that enlarge any
    rounding.
    """
    feats, fine, rois, labels = (x[:20] if len(x) > 1 else x for x in inputs)
    blobs = _blobs(tuple(fine.shape[-2:])).to(fine.device)

    def fit(layer: nn.Conv2d, arguments: tuple) -> None:
        x = arguments[0]
        target = roi_align(blobs, rois, x.shape[-1], 0.25).sign().flatten() * 4
        rows = x.movedim(1, -1).flatten(0, -2)
        rows = torch.cat([rows, torch.ones_like(rows[:, :1])], 1)
        rows, target = rows.double().cpu(), target.double().cpu()[:, None]
        ridge = rows.norm() / len(rows) ** 0.5 * torch.eye(rows.shape[1], dtype=rows.dtype)
        rows = torch.cat([rows, ridge])
        target = torch.cat([target, target.new_zeros(len(ridge), 1)])
        solution = torch.linalg.lstsq(rows, target).solution.to(x)
        layer.weight.copy_(solution[:-1].view(1, -1, 1, 1).expand_as(layer.weight))
        layer.bias.copy_(solution[-1].expand_as(layer.bias))

    layers = [*(stage.instance_logits for stage in head.stages), head.final_instance_logits]
    hooks = [layer.register_forward_pre_hook(fit) for layer in layers]
    head(feats, fine, rois, labels)
    for hook in hooks:
        hook.remove()


def _chunked_peer(head: RefineMaskHead, inputs: tuple[Tensor, ...]) -> Tensor:
    feats, fine, rois, labels = inputs
    chunks = zip(feats.split(100), rois.split(100), labels.split(100))
    return torch.cat(
        [original_fusion(original_forward(head, f, fine, r, c)[0]) for f, r, c in chunks]
    )


@torch.no_grad()
def mask_head(device: str, quick: bool = False) -> Iterator[Row]:
    """B1: mask head forward with test-time fusion, equal outputs."""
    size = (24, 32) if quick else FINE_MAP
    cases = ((4, 80),) if quick else ((20, 80), (100, 80), (100, 1203))
    for count, classes in cases:
        head, inputs = random_head(classes, device), head_inputs(count, classes, device, size)
        _fit_logits(head, inputs)
        yield compare(
            'B1',
            f'mask head, {count} RoIs, {classes} classes, P2 {size[0]}x{size[1]}, fp32',
            lambda: head.fused_masks(*inputs)[0].logits,
            lambda: _chunked_peer(head, inputs),
            device=device,
            tolerance=2e-3,
        )
    if not quick:
        yield _reduced_precision(device)


def _reduced_precision(device: str) -> Row:
    """The bf16 + channels_last option against the original in fp32; masks must agree to IoU 0.995.

    The IoU is to our own fp32 masks and per RoI; two empty masks agree.
    """
    head, inputs = random_head(80, device), head_inputs(100, 80, device)
    _fit_logits(head, inputs)

    def reduced() -> Tensor:
        settings = InferenceSettings(dtype='bfloat16')
        return head.fused_masks(*inputs, settings)[0].logits

    ours, reference = binarise(reduced()), binarise(head.fused_masks(*inputs)[0].logits)
    union = (ours | reference).sum((1, 2, 3))
    overlap = (ours & reference).sum((1, 2, 3))
    iou = torch.where(union > 0, overlap / union.clamp(min=1), 1.0)
    case = 'mask head, 100 RoIs, 80 classes, bf16 channels_last, mean IoU at least 0.995'
    peer = partial(_chunked_peer, head, inputs)
    row = compare('B1', case, reduced, peer, device=device, claim='limit')
    row.equal = bool(iou.mean() >= 0.995)
    row.details.update(figure=f'{iou.mean():.4f}, the worst mask {iou.min():.3f}')
    return row


def _polygons(count: int, generator: np.random.Generator) -> PolygonMasks:
    masks = []
    for _ in range(count):
        centre, radius = generator.uniform(150, 650, 2), generator.uniform(20, 140)
        angles = np.sort(generator.uniform(0, 2 * np.pi, int(generator.integers(12, 40))))
        reach = radius * generator.uniform(0.6, 1.0, len(angles))
        points = centre + np.stack([np.cos(angles), np.sin(angles)], 1) * reach[:, None]
        masks.append([points.ravel()])
    return PolygonMasks(masks, 800, 1344)


def _rois_of(
    masks: PolygonMasks, count: int, generator: np.random.Generator
) -> tuple[Tensor, Tensor]:
    owners = generator.integers(len(masks), size=count)
    boxes = np.stack(
        [[*m[0].reshape(-1, 2).min(0), *m[0].reshape(-1, 2).max(0)] for m in masks.masks]
    )
    boxes = boxes[owners] + generator.normal(0, 5, (count, 4))
    return torch.from_numpy(boxes).float(), torch.from_numpy(owners)


def original_targets(
    boxes: Tensor, inds: Tensor, masks: PolygonMasks | object, sizes: Sequence[int]
) -> list[Tensor]:
    """Targets Tensor[P, 1, S, S] of every size, RoI by RoI and size by size."""
    limit = np.float32([masks.width, masks.height] * 2)
    clipped = np.clip(boxes.cpu().numpy(), np.float32(0), limit)
    crop: Callable = masks.crop_and_resize
    crops = [crop(clipped, (s, s), inds.cpu().numpy(), device='cpu').to_ndarray() for s in sizes]
    return [torch.from_numpy(c.astype(bool))[:, None] for c in crops]


def targets(device: str, quick: bool = False) -> Iterator[Row]:
    """B5: mask targets of four sizes, bit-equal, and boundary extraction."""
    count = 4 if quick else 128
    generator = np.random.default_rng(0)
    polygons = _polygons(2 if quick else 20, generator)
    boxes, inds = _rois_of(polygons, count, generator)
    sizes = (14, 28, 56, 112)
    for name, masks in dict(polygons=polygons, bitmaps=polygons.to_bitmap()).items():
        yield compare(
            'B5',
            f'targets of {count} RoIs x 4 sizes from {name}',
            lambda: multi_size_targets(boxes, inds, masks, sizes),
            lambda: original_targets(boxes, inds, masks, sizes),
            repeats=5,
            memory=False,
        )
    masks = multi_size_targets(boxes, inds, polygons, (56,))[0].to(device)
    for width in (1, 2):
        yield compare(
            'B5',
            f'boundary maps of {count} masks 56x56, width {width}',
            lambda: boundary_map(masks, width),
            lambda: original_boundary(masks, width),
            device=device,
            repeats=9,
        )


BENCHMARKS = {'B1': mask_head, 'B5': targets}
