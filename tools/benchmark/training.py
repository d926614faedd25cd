"""Training steps: RefineMask against the original mask branch, and every system beside Mask R-CNN.

A step is losses and gradients of two images of 480 x 640 with ten objects each, ResNet-18, random
weights. The proposals that the two-stage models train on are given (all of them compute their own,
too), so every model has the same positives.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi
from mmdet.structures.mask import PolygonMasks
from mmdet.utils import InstanceList
from mmengine.config import ConfigDict
from mmengine.hub import get_config
from mmengine.structures import InstanceData
from torch import Tensor, nn

from .detectors import count_flops
from .harness import Row, compare, interleave, peak_memory
from .refinemask import (
    STAGE_WEIGHTS,
    original_boundary,
    original_forward,
    original_targets,
    upsample,
)

BASELINE = 'Mask R-CNN'
MODELS_BESIDE = {
    BASELINE: 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
    'RefineMask': 'mmrefine::refinemask/refinemask_r50_fpn_1x_coco.py',
    'SharpMask head': 'mmrefine::sharpmask/sharpmask-roi_r50_fpn_1x_coco.py',
    'CondInst': 'mmdet::condinst/condinst_r50_fpn_ms-poly-90k_coco_instance.py',
    'SipMask': 'mmrefine::sipmask/sipmask_r50_fpn_1x_coco.py',
    'EmbedMask adet': 'mmrefine::embedmask/embedmask-adet_r50_fpn_ms-1x_coco.py',
}
LVIS = 'mmrefine::refinemask/refinemask_r50_fpn_1x_lvis-v1.py'


@dataclass(frozen=True)
class Batch:
    """Two images and what is given on each."""

    size: tuple[int, int]  # height and width
    objects: int  # objects of the ground truth
    near: int  # proposals about them, beside themselves
    elsewhere: int  # proposals anywhere

    def __str__(self) -> str:
        return f'2 x {self.size[0]}x{self.size[1]}, R18'


FULL = Batch((480, 640), 10, 22, 512)
QUICK = Batch((64, 96), 2, 2, 16)


# ------------------------------------------------------------------------------- what is trained


def objects(seed: int, batch: Batch) -> InstanceData:
    """Ground truth: blobs as polygons, each of its own class."""
    generator = np.random.default_rng(seed)
    height, width = batch.size
    polygons = []
    for _ in range(batch.objects):
        centre = generator.uniform((0.2 * width, 0.2 * height), (0.8 * width, 0.8 * height))
        radius = generator.uniform(0.05, 0.19) * height
        angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        reach = radius * generator.uniform(0.7, 1.0, len(angles))
        polygons.append(centre + np.stack([np.cos(angles), np.sin(angles)], 1) * reach[:, None])
    boxes = [np.concatenate([p.min(0), p.max(0)]) for p in polygons]
    return InstanceData(
        bboxes=torch.from_numpy(np.stack(boxes)).float(),
        labels=torch.arange(batch.objects),
        masks=PolygonMasks([[p.ravel()] for p in polygons], height, width),
    )


def proposals(truth: InstanceData, seed: int, batch: Batch) -> InstanceData:
    """Boxes about the objects, then anywhere."""
    generator = torch.Generator().manual_seed(seed)
    height, width = batch.size
    owners = torch.arange(batch.near) % batch.objects
    near = truth.bboxes[owners] + 2 * torch.randn(batch.near, 4, generator=generator)
    corner = torch.rand(batch.elsewhere, 2, generator=generator) * torch.tensor([width, height])
    sides = (0.02 + 0.18 * torch.rand(batch.elsewhere, 2, generator=generator)) * height
    boxes = torch.cat([near, torch.cat([0.8 * corner, 0.8 * corner + sides], 1)])
    return InstanceData(bboxes=boxes, scores=torch.ones(len(boxes)), labels=torch.zeros(len(boxes)))


def detector(config: str, batch: Batch, device: str) -> nn.Module:
    """Model of a config on a ResNet-18; a two-stage model trains on given proposals."""
    torch.manual_seed(0)
    model = get_config(config).model
    model.backbone = ConfigDict(type='ResNet', depth=18, norm_eval=True, frozen_stages=1)
    model.neck.in_channels = [64, 128, 256, 512]
    if 'RefineMask' in model.get('roi_head', {}).get('mask_head', {}).get('type', ''):
        # the published initialisation gives losses in the hundreds
        model.roi_head.mask_head.logit_std = 0.01
    built = MODELS.build(model)
    built.init_weights()
    built.to(device).train()
    if hasattr(built, 'rpn_head'):
        give_proposals(built.rpn_head, batch, device)
    return built


def give_proposals(rpn_head: nn.Module, batch: Batch, device: str) -> None:
    """Compute proposals as ever, and go on with given ones."""
    own = rpn_head.loss_and_predict
    given = [proposals(objects(i, batch), i, batch).to(device) for i in (0, 1)]

    def loss_and_predict(*args: Any, **kwargs: Any) -> tuple[dict, InstanceList]:
        return own(*args, **kwargs)[0], [InstanceData(**dict(p.items())) for p in given]

    rpn_head.loss_and_predict = loss_and_predict


class Step:
    """Losses and gradients of a batch of two.

    Args:
        model: The detector.
        batch: Sizes.
        device: ``cpu`` or ``cuda``.
    """

    def __init__(self, model: nn.Module, batch: Batch, device: str) -> None:
        self.model, size = model, batch.size
        images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(3))
        self.images = images.to(device)
        self.truth = [objects(i, batch).to(device) for i in (0, 1)]
        self.meta = dict(
            img_shape=size, ori_shape=size, pad_shape=size, batch_input_shape=size,
            scale_factor=(1.0, 1.0),
        )  # fmt: skip
        self.parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}

    def __call__(self) -> dict[str, Tensor]:
        """Losses, and gradients relative to the largest of their parameter."""
        samples = []
        for i, truth in enumerate(self.truth):
            sample = DetDataSample(metainfo=dict(self.meta, img_id=i))
            sample.gt_instances = InstanceData(**dict(truth.items()))
            sample.ignored_instances = InstanceData(
                bboxes=self.images.new_zeros(0, 4), labels=truth.labels[:0]
            )
            samples.append(sample)
        torch.manual_seed(0)  # of the sampler
        total, losses = self.model.parse_losses(self.model.loss(self.images, samples))
        grads = torch.autograd.grad(total, list(self.parameters.values()), allow_unused=True)
        found = {name: value.detach() for name, value in losses.items()}
        for name, grad in zip(self.parameters, grads):
            if grad is not None:
                found[name] = grad.div_(grad.abs().max().clamp(min=1e-12))
        return found


# ------------------------------------------------------------------------ the original mask branch


def original_mask_loss(
    roi_head: nn.Module,
    x: tuple[Tensor, ...],
    sampling_results: list[SamplingResult],
    bbox_feats: Tensor,
    batch_gt_instances: InstanceList,
) -> dict:
    """Losses of RefineMask's branch as the original computes them; arguments and result as in
    ``RefineRoIHead.mask_loss``."""
    head = roi_head.mask_head
    rois = bbox2roi([result.pos_priors for result in sampling_results])
    labels = torch.cat([result.pos_gt_labels for result in sampling_results])
    feats = roi_head.mask_roi_extractor(x[: roi_head.mask_roi_extractor.num_inputs], rois)
    predictions, foreground = original_forward(head, feats, x[roi_head.fine_level], rois, labels)
    pairs = list(zip(sampling_results, batch_gt_instances))
    per_image = [
        original_targets(r.pos_priors, r.pos_assigned_gt_inds, gt.masks, head.stage_sizes)
        for r, gt in pairs
    ]
    targets = [torch.cat(stage).float().to(rois.device) for stage in zip(*per_image)]
    semantic = original_semantic_targets(batch_gt_instances, foreground)
    losses = dict(
        loss_instance=original_instance_loss(predictions, targets),
        loss_semantic=F.binary_cross_entropy_with_logits(foreground, semantic),
    )
    return dict(loss_mask=losses, mask_preds=predictions[-1])


def original_semantic_targets(batch_gt_instances: InstanceList, logits: Tensor) -> Tensor:
    """Union of the objects: every one a float plane of the whole image, then the largest."""
    planes = [
        gt.masks.to_tensor(torch.float32, logits.device).max(0, keepdim=True).values
        for gt in batch_gt_instances
    ]
    resized = F.interpolate(torch.stack(planes), logits.shape[-2:], mode='bilinear')
    return (resized >= 0.5).float()


def original_instance_loss(predictions: list[Tensor], targets: list[Tensor]) -> Tensor:
    """Cross entropy of every stage, in the late ones of the pixels picked by a boolean index."""
    total = predictions[0].new_zeros(())
    state = predictions[0].detach()
    for i, (logits, target) in enumerate(zip(predictions, targets)):
        if i < 2:
            term = F.binary_cross_entropy_with_logits(logits, target)
            state = logits.detach()
        else:
            mask = state.sigmoid() >= 0.5
            band = original_boundary(mask, 2) | original_boundary(targets[i - 1], 2)
            region = upsample(band.float()) >= 0.5
            term = F.binary_cross_entropy_with_logits(logits[region], target[region])
            keep = upsample(1 - original_boundary(mask, 1).float()) >= 0.5
            finer = logits.detach().clone()
            finer[keep] = upsample(state)[keep]
            state = finer
        total = total + STAGE_WEIGHTS[i] * term
    return total


# ------------------------------------------------------------------------------------ measurement


def against_original(config: str, classes: int, batch: Batch, device: str) -> list[Row]:
    """RefineMask's step with this package's mask branch and with the original's, same weights."""
    ours = Step(detector(config, batch, device), batch, device)
    roi_head = ours.model.roi_head

    def peer() -> dict[str, Tensor]:
        roi_head.mask_loss = partial(original_mask_loss, roi_head)
        found = ours()
        del roi_head.mask_loss
        return found

    case = f'RefineMask training step, {batch}, {classes} classes'
    return [
        compare(
            'B8', case, ours, peer, device=device, tolerance=2e-3, repeats=2,
            details=dict(positives=2 * (batch.near + batch.objects)),
        )
    ]  # fmt: skip


def original_coco(device: str, quick: bool = False) -> list[Row]:
    """Against the original with COCO's 80 classes."""
    return against_original(MODELS_BESIDE['RefineMask'], 80, QUICK if quick else FULL, device)


def original_lvis(device: str) -> list[Row]:
    """Against the original with LVIS's 1,203 classes."""
    return against_original(LVIS, 1203, FULL, device)


def beside_mask_rcnn(device: str, quick: bool = False) -> list[Row]:
    """Steps of all systems in turn."""
    batch = QUICK if quick else FULL
    steps = {
        name: Step(detector(config, batch, device), batch, device)
        for name, config in MODELS_BESIDE.items()
    }
    memory, flops = {}, {}
    for name, step in steps.items():  # warms up, too
        memory[name] = peak_memory(lambda: flops.update({name: count_flops(step)}), device)
    times = dict(zip(steps, interleave(list(steps.values()), 1 if quick else 2, device)))
    rows = []
    for name in steps:
        details = dict(
            scene=f'training step, {batch}',
            model=name,
            latency_ratio=min(times[name]) / min(times[BASELINE]),
            median_time_ratio=float(np.median(times[BASELINE]) / np.median(times[name])),
            memory_ours_mib=memory[name] / 2**20,
            memory_peer_mib=memory[BASELINE] / 2**20,
            parameters=sum(p.numel() for p in steps[name].model.parameters()),
            flops=flops[name],
        )
        ratios = min(times[BASELINE]) / min(times[name]), memory[BASELINE] / memory[name]
        case = f'{details["scene"]}: {name}'
        rows.append(Row('B8', case, *ratios, 0.0, True, details, 'work'))
    return rows


BENCHMARKS = {
    'B8': {'loss-80': original_coco, 'loss-1203': original_lvis, 'systems': beside_mask_rcnn}
}
