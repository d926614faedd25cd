"""Replays recordings of the original RefineMask (tolerances: table of the recording's
description)."""

import json
from typing import Any

import numpy as np
import torch
from mmdet.registry import MODELS
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from torch import Tensor, nn

from mmrefine.layers import boundary_map, point_roi_align, resize_band, roi_align
from mmrefine.masks import roi_masks, to_dense
from mmrefine.refinemask.inference import binarise, refine
from mmrefine.refinemask.losses import BARCrossEntropyLoss, training_regions
from mmrefine.refinemask.stages import resize_aligned
from mmrefine.refinemask.targets import multi_size_targets, semantic_targets

from .golden import Golden
from .refinemask_detector import check_detector
from .report import Report, relative
from .run import Reader

PIXEL_SHARE = 2e-4  # of pasted masks and fused logits that may differ


def _build_head(golden: Golden, device: torch.device) -> nn.Module:
    head = MODELS.build(golden.settings['mask_head'])
    head.load_state_dict(golden.state_dict(), strict=True)
    return head.to(device)


def _extractor(golden: Golden, channels: int) -> nn.Module:
    s = golden.settings
    layer = dict(type='RoIAlign', output_size=s['mask_roi_output_size'], sampling_ratio=0)
    return MODELS.build(
        dict(
            type='SingleRoIExtractor',
            roi_layer=layer,
            out_channels=channels,
            featmap_strides=s['roi_featmap_strides'],
            finest_scale=s['finest_scale'],
        )
    )


def _pyramid(golden: Golden, device: torch.device) -> list[Tensor]:
    names = sorted(k for k in golden if k.startswith('in/fpn'))
    return [golden.tensor(name, device) for name in names]


class _Run:
    """One forward pass of the head with everything the recordings look at."""

    def __init__(self, golden: Golden, device: torch.device, fpn: list[Tensor]) -> None:
        self.head = _build_head(golden, device)
        self.extractor = _extractor(golden, fpn[0].shape[1])
        self.fpn = fpn
        self.stage_feats: list[Tensor] = []
        for stage in self.head.stages:
            stage.register_forward_hook(self._keep)

    def _keep(self, stage: nn.Module, inputs: tuple, output: Any) -> None:
        self.stage_feats.append(output[1] if isinstance(output, tuple) else output)

    def __call__(self, rois: Tensor, labels: Tensor) -> tuple[list[Tensor], Tensor | None]:
        self.stage_feats.clear()
        self.roi_feats = self.extractor(self.fpn[: self.extractor.num_inputs], rois)
        return self.head(self.roi_feats, self.fpn[0], rois, labels)


def _check_recorded(golden: Golden, report: Report, ours: dict[str, Tensor]) -> None:
    """Compare logits and features with what was recorded of them (small recordings leave some
    out)."""
    for name, value in ours.items():
        if name in golden:
            report.close(name.removeprefix('out/'), value, golden[name], atol=1e-3)


def _check_forward(golden: Golden, report: Report, device: torch.device) -> None:
    run = _Run(golden, device, _pyramid(golden, device))
    rois = golden.tensor('in/fwd/rois', device)
    with torch.no_grad():
        logits, semantic = run(rois, golden.tensor('in/fwd/labels', device))
    levels = run.extractor.map_roi_levels(rois, len(golden.settings['roi_featmap_strides']))
    report.exact('forward: RoI levels', levels, golden['out/fwd/roi_levels'])
    means = run.roi_feats.mean((2, 3))
    report.close('forward: RoI features, mean', means, golden['out/fwd/ins_feats_mean'], atol=1e-3)
    recorded = {'out/fwd/ins_feats_roi0': run.roi_feats[:1], 'out/fwd/semantic_pred': semantic}
    for i, stage in enumerate(logits):
        recorded[f'out/fwd/stage{i}_pred'] = stage
    for i, feats in enumerate(run.stage_feats):
        recorded[f'out/fwd/stage{i}_feats_roi0'] = feats[:1]
        recorded[f'out/fwd/stage{i}_feats_mean'] = feats.mean((2, 3))
    _check_recorded(golden, report, recorded)


def _images(golden: Golden) -> list[int]:
    return sorted(int(k.rsplit('_', 1)[1]) for k in golden if k.startswith('in/train/pos_bboxes_'))


def polygon_masks(text: Any, height: int, width: int) -> PolygonMasks:
    """Ground truth from the recorded list instance -> polygons -> coordinates."""
    instances = json.loads(str(text))
    return PolygonMasks([[np.array(p) for p in parts] for parts in instances], height, width)


def _check_targets(
    golden: Golden, report: Report, device: torch.device, head: nn.Module
) -> tuple[list[Tensor], Tensor | None]:
    kinds: dict[str, list] = dict(polygon=[], bitmap=[])
    canvases = []
    for b in _images(golden):
        height, width = (int(n) for n in golden[f'in/train/pad_hw_{b}'])
        polygons = polygon_masks(golden[f'in/train/gt_polygons_{b}'], height, width)
        bitmaps = golden[f'in/train/gt_bitmaps_{b}'].astype(np.uint8)
        boxes = golden.tensor(f'in/train/pos_bboxes_{b}', device)
        inds = golden.tensor(f'in/train/pos_gt_inds_{b}', device)
        canvases.append(polygons)
        masks = dict(polygon=polygons, bitmap=BitmapMasks(bitmaps, height, width))
        for kind, targets in kinds.items():
            targets.append(multi_size_targets(boxes, inds, masks[kind], head.stage_sizes))
    joined = {k: [torch.cat(t) for t in zip(*per_image)] for k, per_image in kinds.items()}
    for kind, targets in joined.items():
        for i, target in enumerate(targets):
            reference = golden[f'out/train/target_{kind}_stage{i}']
            report.exact(f'targets: {kind}, stage {i}', target[:, 0], reference)
    semantic = None
    if 'out/train/semantic_target' in golden:
        reference = golden['out/train/semantic_target']
        size = (int(reference.shape[-2]), int(reference.shape[-1]))
        semantic = semantic_targets(canvases, size, device)
        report.exact('targets: semantic', semantic.reshape(reference.shape), reference)
    return joined['polygon'], semantic


def _check_training(golden: Golden, report: Report, device: torch.device) -> None:
    fpn = [level.requires_grad_() for level in _pyramid(golden, device)]
    run = _Run(golden, device, fpn)
    boxes = [golden.tensor(f'in/train/pos_bboxes_{b}', device) for b in _images(golden)]
    rois = torch.cat([torch.cat([x.new_full((len(x), 1), b), x], 1) for b, x in enumerate(boxes)])
    labels = torch.cat([golden.tensor(f'in/train/pos_labels_{b}', device) for b in _images(golden)])
    logits, semantic = run(rois, labels)
    _check_recorded(golden, report, {f'out/train/stage{i}_pred': x for i, x in enumerate(logits)})
    targets, semantic_target = _check_targets(golden, report, device, run.head)
    loss = run.head.loss_func
    loss.upsample_raw = True
    for i, term in enumerate(loss.stage_losses(logits, targets)):
        reference = golden[f'out/train/stage{i}_loss_unweighted']
        report.close(f'training: loss of stage {i}', term, reference, rtol=1e-5)
    _check_regions(golden, report, logits, targets, loss)
    total = loss(logits, targets)
    report.close('training: loss_instance', total, golden['out/train/loss_instance'], rtol=1e-5)
    if semantic_target is not None:
        term = loss.semantic_loss(semantic, semantic_target)
        report.close('training: loss_semantic', term, golden['out/train/loss_semantic'], rtol=1e-5)
        total = total + term
    total.backward()
    _check_gradients(golden, report, dict(run.head.named_parameters()), fpn)


def _check_regions(
    golden: Golden,
    report: Report,
    logits: list[Tensor],
    targets: list[Tensor],
    loss: BARCrossEntropyLoss,
) -> None:
    regions = training_regions(logits, targets, loss.boundary_width, loss.start_stage)
    for i, region in enumerate(regions):
        if region is not None:
            reference = golden[f'out/train/bar_region_stage{i}']
            report.exact(
                f'training: region of stage {i}', region.reshape(reference.shape), reference
            )


def _check_gradients(
    golden: Golden, report: Report, parameters: dict[str, nn.Parameter], fpn: list[Tensor]
) -> None:
    names = [str(name) for name in golden['out/train/grad_names']]
    report.check('gradients: names', set(names) == set(parameters))
    gradients = [parameters[name].grad.double() for name in names]
    for statistic, values in dict(
        l2=[g.norm() for g in gradients], absmax=[g.abs().max() for g in gradients]
    ).items():
        reference = golden[f'out/train/grad_{statistic}']
        ratios = relative(torch.stack(values).cpu().numpy(), reference)
        report.close(f'gradients: {statistic} per tensor', ratios, np.ones_like(ratios), rtol=1e-3)
    for name in golden.keys_under('out/train/grad'):  # full arrays
        reference = golden[f'out/train/grad/{name}']
        report.close(f'gradients: {name}', parameters[name].grad, reference, rtol=1e-3)
    inputs = dict(fpn0_ch0=lambda: fpn[0].grad[:, 0], fpn2=lambda: fpn[2].grad)
    for name, value in inputs.items():
        if f'out/train/grad_in_{name}' in golden:
            reference = golden[f'out/train/grad_in_{name}']
            report.close(
                f'gradients: input {name}', value().reshape(reference.shape), reference, rtol=1e-3
            )
    norms = [0.0 if f.grad is None else float(f.grad.double().norm()) for f in fpn]
    report.close('gradients: inputs, l2', norms, golden['out/train/grad_in_l2'], rtol=1e-3)


def _check_inference(golden: Golden, report: Report, device: torch.device) -> None:
    run = _Run(golden, device, [level[:1] for level in _pyramid(golden, device)])
    detections = golden.tensor('in/infer/det_bboxes', device)
    scale = golden.tensor('in/infer/scale_factor', device).float()
    boxes = detections[:, :4] * scale
    rois = torch.cat([boxes.new_zeros((len(boxes), 1)), boxes], dim=1)
    report.close('inference: RoIs', rois, golden['out/infer/rois'], atol=1e-3)
    with torch.no_grad():
        logits, _ = run(rois, golden.tensor('in/infer/det_labels', device))
    fused = logits[1]
    _check_recorded(golden, report, {f'out/infer/raw_stage{i}': x for i, x in enumerate(logits)})
    for i, stage in enumerate(logits[2:], start=2):
        boundary = boundary_map(binarise(fused), 1)
        inside = golden[f'out/infer/non_boundary_stage{i - 1}']
        report.exact(
            f'inference: non-boundary, stage {i - 1}', ~boundary.reshape(inside.shape), inside
        )
        keep = golden[f'out/infer/keep_previous_stage{i}']
        kept = ~resize_band(boundary, stage.shape[-1])
        report.exact(f'inference: kept pixels, stage {i}', kept.reshape(keep.shape), keep)
        fused = refine(fused, stage)
        if f'out/infer/fused_stage{i}' in golden:
            reference = golden[f'out/infer/fused_stage{i}']
            name = f'inference: fused logits, stage {i}'
            report.close(name, fused, reference, atol=1e-3, max_share=PIXEL_SHARE)
    size = tuple(int(n) for n in golden['in/infer/ori_hw'])
    for mask_format in ('dense', 'rle'):
        masks = roi_masks(fused.sigmoid()[:, 0], boxes / scale, size, mask_format=mask_format)
        reference = golden['out/infer/masks']
        report.exact(
            f'inference: masks, {mask_format}',
            to_dense(masks, size),
            reference,
            max_share=PIXEL_SHARE,
        )


def check_head(golden: Golden, report: Report, device: torch.device) -> None:
    """A mask head alone: forward, and where recorded training and inference."""
    _check_forward(golden, report, device)
    if 'out/train/loss_instance' in golden:
        _check_training(golden, report, device)
    if 'out/infer/masks' in golden:
        _check_inference(golden, report, device)


def check_refinement(golden: Golden, report: Report, device: torch.device) -> None:
    """Boundary maps and the multi-stage loss alone."""
    for key in (k for k in golden if k.startswith('in/mask_')):
        side = key.removeprefix('in/mask_')
        masks = golden.tensor(key, device).bool()
        masks = masks.reshape(-1, 1, *masks.shape[-2:])
        for name in (k for k in golden if k.startswith(f'out/block_{side}_w')):
            width = int(name.rsplit('_w', 1)[1])
            boundary = boundary_map(masks, width)
            # 0 background, 1 boundary, 2 interior foreground
            blocks = torch.where(boundary, 1, masks.long() * 2)
            report.exact(
                f'blocks {side}, width {width}', blocks.reshape(golden[name].shape), golden[name]
            )
            for kind, band in dict(boundary=boundary, nonboundary=~boundary).items():
                reference = golden[f'out/{kind}_up2_{side}_w{width}']
                ours = resize_band(band, 2 * masks.shape[-1]).reshape(reference.shape)
                report.exact(f'{kind} resized {side}, width {width}', ours, reference)
    _check_loss_alone(golden, report, device)


def _check_loss_alone(golden: Golden, report: Report, device: torch.device) -> None:
    count = sum(k.startswith('in/loss/pred') for k in golden)
    logits = [golden.tensor(f'in/loss/pred{i}', device).requires_grad_() for i in range(count)]
    targets = [golden.tensor(f'in/loss/target{i}', device).bool() for i in range(count)]
    targets = [t.reshape(x.shape) for t, x in zip(targets, logits)]
    for width, start, *terms in golden['out/loss/table_bw_start_perstage']:
        loss = BARCrossEntropyLoss([1.0] * count, int(width), int(start), upsample_raw=True)
        ours = torch.stack(loss.stage_losses(logits, targets))
        report.close(f'loss, width {int(width)}, start {int(start)}', ours, terms, rtol=1e-5)
    loss = BARCrossEntropyLoss([0.25, 0.5, 0.75, 1.0])
    loss(logits, targets).backward()
    for i, x in enumerate(logits):
        report.close(
            f'loss: gradient of stage {i}', x.grad, golden[f'out/loss/grad_pred{i}'], rtol=1e-3
        )
    empty = [torch.full_like(x, -5.0) for x in logits]
    nothing = [torch.zeros_like(t) for t in targets]
    terms = torch.stack(loss.stage_losses(empty, nothing))
    reference = golden['out/loss/empty_region_value']
    report.exact('loss: empty regions', terms[2:], reference[2:])


def check_operators(golden: Golden, report: Report, device: torch.device) -> None:
    """Pooling, resizing and pasting."""
    scale, size = golden.settings['spatial_scale'], golden.settings['output_size']
    rois = golden.tensor('in/rois', device)
    poolers = dict(
        roi_align=lambda f: roi_align(f, rois, size, scale),
        simple_roi_align=lambda f: point_roi_align(f, rois, size, round(1 / scale)),
    )
    for name, pool in poolers.items():
        feat = golden.tensor('in/feat', device).requires_grad_()
        out = pool(feat)
        report.close(name, out, golden[f'out/{name}'], atol=1e-3)
        weight = torch.cos(torch.arange(out.numel(), device=device, dtype=out.dtype))
        (out * weight.view_as(out)).sum().backward()
        report.close(f'{name}: gradient', feat.grad, golden[f'out/{name}_grad_feat'], rtol=1e-3)
    mixed = golden.tensor('in/rois_unordered', device)
    ours = point_roi_align(golden.tensor('in/feat', device), mixed, size, round(1 / scale))
    # the original returns RoIs grouped by image; ours keep their order
    by_image = mixed[:, 0].argsort(stable=True)
    reference = golden['out/simple_roi_align_unordered_original_behaviour']
    report.close('simple_roi_align, RoIs of mixed images', ours[by_image], reference, atol=1e-3)
    x = golden.tensor('in/up', device)
    plain = nn.functional.interpolate(x, scale_factor=2, mode='bilinear', align_corners=False)
    report.close('features x2', plain, golden['out/up2_align_false'], atol=1e-3)
    aligned = resize_aligned(x, 2 * x.shape[-1])
    report.close('masks x2', aligned, golden['out/up2_align_true'], atol=1e-3)
    reference = golden['out/paste_masks']
    probabilities = golden.tensor('in/paste_prob', device)
    masks = roi_masks(
        probabilities.reshape(-1, *probabilities.shape[-2:]),
        golden.tensor('in/paste_boxes', device),
        tuple(int(n) for n in reference.shape[-2:]),
    )
    report.exact('pasted masks', masks, reference, max_share=PIXEL_SHARE)


READERS = [
    Reader('whole detector', lambda g: 'model' in g.get('meta/settings', {}), check_detector),
    Reader('mask head', lambda g: 'in/fwd/rois' in g, check_head),
    Reader('boundary refinement', lambda g: 'in/loss/pred0' in g, check_refinement),
    Reader('operators', lambda g: 'out/roi_align' in g, check_operators),
]
