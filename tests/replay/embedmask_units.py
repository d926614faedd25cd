"""Replay the recorded single functions of EmbedMask."""

import math

import torch
from mmdet.registry import MODELS
from torch import Tensor

from mmrefine.embedmask.box_head import log_margin_prior
from mmrefine.embedmask.kernel import box_regions, haloed_boxes, mask_exponent, padded_boxes
from mmrefine.embedmask.losses import (
    lovasz_from_exponent,
    lovasz_of_cells,
    lovasz_weights,
    smooth_loss,
)
from mmrefine.embedmask.targets import dilated_targets
from mmrefine.fcos import (
    LtrbIoULoss,
    PointGrid,
    assign_points,
    centerness_targets,
    make_grid,
    pairwise_iou,
)

from .golden import Golden
from .report import Report

LIMIT = dict(v1=0.0, v2=1e-9, v3=1e-9)
LOSS = dict(rtol=1e-5)
GRADIENT = dict(rtol=2e-3)
MAP = dict(atol=1e-4, rtol=1e-4)
STRIDES = (8, 16, 32, 64, 128)
SMOOTH_WEIGHT = 0.1


def probability_to_logit(probability: Tensor, eps: float = 0.0) -> Tensor:
    """ln p - ln(1 - p) with p limited to [eps, 1 - 2^-24], so that p = 1 stays finite."""
    top = 1 - max(eps, 2**-24)
    probability = probability.float().clamp(max(eps, torch.finfo(torch.float32).tiny), top)
    return probability.log() - torch.log1p(-probability)


def lovasz_hinge(logits: Tensor, targets: Tensor, valid: Tensor | None = None) -> Tensor:
    """Lovász hinge of every instance: Tensor[K, N], BoolTensor[K, N] -> Tensor[K]."""
    logits = logits.float()
    with torch.no_grad():
        wrong = torch.where(targets, logits < 1, logits > -1)
        wrong = wrong if valid is None else wrong & valid
    chosen = wrong.flatten().nonzero().squeeze(1)
    return lovasz_of_cells(logits.flatten().index_select(0, chosen), chosen, targets, valid)


def check_units(golden: Golden, report: Report, device: torch.device) -> None:
    """Everything a unit file records."""
    _lovasz(golden, report, device)
    _regions_and_targets(golden, report, device)
    _kernel(golden, report, device)
    _boxes(golden, report, device)
    if 'out/smooth_loss' in golden:
        _smooth(golden, report, device)


def _lovasz(golden: Golden, report: Report, device: torch.device) -> None:
    minimum = LIMIT[golden.json('meta')['variant']]
    for name in ('prob', 'logit', 'crop', 'extreme', 'p_equals_one'):
        if f'in/lovasz_{name}_x' not in golden:
            continue
        x = golden.tensor(f'in/lovasz_{name}_x', device)
        targets = golden.tensor(f'in/lovasz_{name}_target', device).bool().flatten(1)
        valid = None
        if f'in/lovasz_{name}_mask' in golden:
            valid = golden.tensor(f'in/lovasz_{name}_mask', device).bool().flatten(1)
        leaf = x.clone().requires_grad_()
        logits = leaf if name == 'logit' else probability_to_logit(leaf, minimum)
        loss = lovasz_hinge(logits.flatten(1), targets, valid)
        (gradient,) = torch.autograd.grad(loss.sum(), leaf)
        report.close(f'lovasz_{name} loss', loss, golden[f'out/lovasz_{name}_loss'], **LOSS)
        _lovasz_gradient(golden, report, name, gradient)
        if name in ('prob', 'crop', 'p_equals_one'):
            high = -math.log(minimum) if minimum else None
            direct = lovasz_from_exponent(-x.log().flatten(1), targets, valid, high=high)
            report.close(
                f'lovasz_{name} loss (exponent)', direct, golden[f'out/lovasz_{name}_loss'], **LOSS
            )
    sorted_targets = golden.tensor('in/lovasz_grad_gt_sorted', device)
    weights = _sorted_weights(sorted_targets)
    report.close('lovasz_grad', weights, golden['out/lovasz_grad'], atol=1e-6)
    report.close(
        'lovasz_single',
        _sorted_weights(golden.tensor('in/lovasz_single_gt', device)),
        golden['out/lovasz_single'],
        atol=1e-6,
    )


def _sorted_weights(targets: Tensor) -> Tensor:
    """Weights for errors that come in falling order."""
    positive = targets > 0.5
    errors = torch.arange(len(targets), 0, -1, device=targets.device, dtype=torch.float32)
    instance = torch.zeros(len(targets), dtype=torch.long, device=targets.device)
    return lovasz_weights(errors, positive, instance, positive.sum()[None])


def _lovasz_gradient(golden: Golden, report: Report, name: str, gradient: Tensor) -> None:
    recorded = golden.tensor(f'out/lovasz_{name}_grad', gradient.device)
    broken = ~recorded.isfinite()
    report.check(f'lovasz_{name} gradient finite everywhere', bool(gradient.isfinite().all()))
    gradient = gradient.masked_fill(broken, 0)
    recorded = recorded.masked_fill(broken, 0)
    if name == 'extreme':
        # equal errors share their weights in an arbitrary order: compare what each value gets in
        # all
        gradient, recorded = (
            gradient.flatten(1).sort(dim=1).values,
            recorded.flatten(1).sort(dim=1).values,
        )
    report.close(f'lovasz_{name} gradient', gradient, recorded, **GRADIENT)


def _regions_and_targets(golden: Golden, report: Report, device: torch.device) -> None:
    masks, boxes = golden.tensor('in/crop_masks', device), golden.tensor('in/crop_boxes', device)
    size = tuple(masks.shape[1:])
    region = box_regions(padded_boxes(boxes, size, 0.1), size)
    report.exact('crop_region_pad0.1', region, golden['out/crop_region_pad0.1'] > 0)
    report.exact('crop_masks_pad0.1', masks * region, golden['out/crop_masks_pad0.1'])
    inference = haloed_boxes(golden.tensor('in/boxes_to_masks', device), 1, truncate=False)
    report.exact('boxes_to_masks', box_regions(inference, size), golden['out/boxes_to_masks'] > 0)
    objects = golden.tensor('in/gt_masks', device)
    canvas = objects.new_zeros(len(objects), 64, 96)
    canvas[:, : objects.shape[1], : objects.shape[2]] = objects
    report.exact(
        'mask_targets_64x96_to_16x24',
        dilated_targets(canvas),
        golden['out/mask_targets_64x96_to_16x24'] > 0,
    )
    grid = make_grid([(-(-128 // s), -(-160 // s)) for s in STRIDES], STRIDES, device)
    region = _center_regions(grid, golden.tensor('in/sample_region_boxes', device))
    report.exact('sample_region_128x160_r1.5', region, golden['out/sample_region_128x160_r1.5'] > 0)


def _center_regions(grid: PointGrid, boxes: Tensor) -> Tensor:
    """BoolTensor[P, G], asked one object at a time so that no other can win the point."""
    ranges = boxes.new_tensor([[-1, 1e8]] * 5)
    return torch.stack(
        [assign_points(grid, box[None], ranges, 1.5).gt_index >= 0 for box in boxes], dim=1
    )


def _kernel(golden: Golden, report: Report, device: torch.device) -> None:
    pixels, embeds, margins = (
        golden.tensor(f'in/mp_{n}', device) for n in ('pixel', 'embed', 'margin')
    )
    exponent = mask_exponent(pixels, embeds, margins)
    report.close('mp_prob', torch.exp(-exponent), golden['out/mp_prob'], **MAP)
    prior = math.exp(log_margin_prior(2.0))
    report.close('init_margin', prior, golden['out/init_margin'], **LOSS)
    fixed = mask_exponent(pixels, embeds, margins.new_full((len(margins), 1), prior))
    report.close(
        'mp_prob_fixed_margin', torch.exp(-fixed), golden['out/mp_prob_fixed_margin'], **MAP
    )
    size, boxes = tuple(pixels.shape[1:]), golden.tensor('in/mp_boxes', device)
    # the recorded operator fills a window 2 cells beyond truncated boxes in every generation; v1
    # and v2 mask it later
    inside = box_regions(haloed_boxes(boxes, 2, truncate=True), size)
    if golden.json('meta')['variant'] == 'v3':
        maps = torch.where(inside, -exponent, -10.0)
    else:
        maps = torch.where(inside, torch.exp(-exponent), 0.0)
    report.close('mp_infer_map', maps, golden['out/mp_infer_map'], **MAP)


def _boxes(golden: Golden, report: Report, device: torch.device) -> None:
    first, second = golden.tensor('in/iou_a', device), golden.tensor('in/iou_b', device)
    report.close(
        'iou_plus1', pairwise_iou(first, second, offset=1.0), golden['out/iou_plus1'], atol=1e-6
    )
    logits = golden.tensor('in/focal_logits', device).requires_grad_()
    labels = golden.tensor('in/focal_labels', device)
    num_classes = logits.shape[1]
    zero_based = torch.where(labels > 0, labels - 1, num_classes)
    focal = MODELS.build(
        dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, reduction='sum')
    )
    loss = focal(logits, zero_based)
    report.close('focal_sum', loss, golden['out/focal_sum'], **LOSS)
    report.close(
        'focal_grad', torch.autograd.grad(loss, logits)[0], golden['out/focal_grad'], **GRADIENT
    )
    target, weight = (
        golden.tensor('in/iou_target_ltrb', device),
        golden.tensor('in/iou_weight', device),
    )
    for kind, ours in (('giou', 'giou'), ('iou', 'area_iou'), ('linear_iou', 'linear_iou')):
        pred = golden.tensor('in/iou_pred_ltrb', device).requires_grad_()
        loss = LtrbIoULoss(ours, offset=1.0)(pred, target, weight, avg_factor=1.0)
        report.close(f'iou_loss_{kind}', loss, golden[f'out/iou_loss_{kind}_weighted_sum'], **LOSS)
        (gradient,) = torch.autograd.grad(loss, pred)
        report.close(
            f'iou_loss_{kind} gradient', gradient, golden[f'out/iou_loss_{kind}_grad'], **GRADIENT
        )
    report.close(
        'centerness_target', centerness_targets(target), golden['out/centerness_target'], atol=1e-6
    )


def _smooth(golden: Golden, report: Report, device: torch.device) -> None:
    """The recording's image 0 has a third object without samples, which counts in its divisor."""
    objects = (3, 1)
    total = 0.0
    for image, count in enumerate(objects):
        embeds, margins, groups = [], [], []
        for group in range(count):
            if f'in/smooth_embed_{image}_{group}' in golden:
                embeds.append(golden.tensor(f'in/smooth_embed_{image}_{group}', device))
                margins.append(golden.tensor(f'in/smooth_margin_{image}_{group}', device))
                groups += [group] * len(embeds[-1])
        groups = torch.tensor(groups, device=device)
        total += smooth_loss(torch.cat(embeds), torch.cat(margins), groups, count).sum() / count
    report.close(
        'smooth_loss', SMOOTH_WEIGHT * total / len(objects), golden['out/smooth_loss'], **LOSS
    )
