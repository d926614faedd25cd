"""Replays recordings of the original SipMask: operators, losses, gradients, detections, masks.

Tolerances are those of the recordings: forward 1e-4 relative plus 1e-5, losses 1e-5, gradients 1e-4
of the largest value (those that vanish analytically: 1e-5 absolute), boxes and scores 1e-4, soft
masks 1e-5, binary masks 1e-4 of the pixels; labels, counts, assignments and crop operators are
exact.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from benchmark.crop_split import crop_split, crop_split_gt
from mmengine.structures import InstanceData
from torch import Tensor

from mmrefine.sipmask.assembly import pixel_logits
from mmrefine.sipmask.box_head import SipMaskBBoxHead, SipMaskOutputs
from mmrefine.sipmask.mask_head import SipMaskHead
from mmrefine.sipmask.postprocess import resized_size

from .golden import Golden
from .report import Report
from .run import Reader
from .sipmask_heads import (
    BENCHMARK_TEST,
    MMDET_ACCURATE,
    MMDET_BOX_HEAD,
    MMDET_REAL_TIME,
    Replay,
    benchmark_replay,
    box_head,
    drawn_weight,
    mmdet_replay,
    mmdet_shapes,
    settings,
)


def bits(golden: Golden, name: str, device: torch.device) -> Tensor:
    """A packed boolean array as BoolTensor."""
    shape = golden[f'{name}.shape'].tolist()
    flat = np.unpackbits(golden[f'{name}.bits'], count=int(np.prod(shape)))
    return torch.from_numpy(flat.reshape(shape).astype(bool)).to(device)


def parse_slice(text: str) -> tuple[slice | int, ...]:
    """``'[:,1::4,5]'`` -> the index it denotes."""
    parts = [part.split(':') for part in text.strip('[]').split(',')]
    numbers = [[int(n) if n else None for n in part] for part in parts]
    return tuple(n[0] if len(n) == 1 else slice(*n) for n in numbers)


def compare(report: Report, golden: Golden, key: str, ours: Tensor, **tolerance: Any) -> None:
    """Compare with ``key``, or with each recorded slice of it (``key@[...]``)."""
    for name in golden:
        if name == key:
            report.close(name, ours, golden[name], **tolerance)
        elif name.startswith(f'{key}@['):
            index = parse_slice(name.split('@')[1])
            report.close(name, ours[index], golden[name], **tolerance)


def features(golden: Golden, device: torch.device) -> list[Tensor]:
    """Recorded pyramid maps, ready to collect gradients."""
    maps = [golden.tensor(f'in/feat{level}', device) for level in range(5)]
    return [level.requires_grad_() for level in maps]


def gt_instances(golden: Golden, device: torch.device, images: int) -> list[InstanceData]:
    """Recorded objects of the first ``images`` images; the original counts labels from 1."""
    found = []
    for b in range(images):
        gt = InstanceData(
            bboxes=golden.tensor(f'in/gt_bboxes{b}', device),
            labels=golden.tensor(f'in/gt_labels{b}', device) - 1,
        )
        if f'in/gt_masks{b}.bits' in golden:
            gt.masks = bits(golden, f'in/gt_masks{b}', device)
        found.append(gt)
    return found


def check_forward(
    golden: Golden, report: Report, replay: Replay, outputs: SipMaskOutputs, basis: Tensor, at: str
) -> None:
    """Compare all maps of the heads recorded under ``at``; recorded boxes are in pixels."""
    tolerance = {'atol': 1e-5, 'rtol': 1e-4}
    for level, stride in enumerate(replay.box.strides):
        coeffs = outputs.coeffs[level]
        recorded = f'{at}/cof_pred{level}'
        if recorded in golden and golden[recorded].shape[1] < coeffs.shape[1]:
            coeffs = coeffs[:, :: coeffs.shape[1] // golden[recorded].shape[1]]
        compare(report, golden, f'{at}/cls_score{level}', outputs.classes[level], **tolerance)
        compare(report, golden, f'{at}/bbox_pred{level}', outputs.ltrb[level] * stride, **tolerance)
        compare(report, golden, f'{at}/centerness{level}', outputs.centers[level], **tolerance)
        compare(report, golden, recorded, coeffs, **tolerance)
    compare(report, golden, f'{at}/basis', basis, **tolerance)


def check_assignment(
    golden: Golden, report: Report, head: SipMaskBBoxHead, outputs: SipMaskOutputs, gts: list
) -> None:
    """Compare labels (1-based, 0 background), distances and objects of the positive points."""
    targets = head.assign(head.grid(outputs.classes), gts)
    for b, gt in enumerate(gts):
        index = targets.gt_index[b]
        labels = torch.cat((gt.labels + 1, gt.labels.new_zeros(1)))[index]
        report.exact(f'assign_labels{b}', labels, golden[f'out/assign_labels{b}'])
        if f'out/assign_gt_inds_pos{b}' in golden:
            report.exact(f'gt_inds_pos{b}', index[index >= 0], golden[f'out/assign_gt_inds_pos{b}'])
        if f'out/assign_ltrb_pos{b}' in golden:
            ltrb = targets.ltrb[b][index >= 0]
            report.close(f'ltrb_pos{b}', ltrb, golden[f'out/assign_ltrb_pos{b}'], atol=1e-4)


def check_training(
    golden: Golden, report: Report, replay: Replay, feats: list[Tensor], metas: list[dict]
) -> None:
    """Compare assignment, mask samples, losses and gradients."""
    gts = gt_instances(golden, feats[0].device, len(feats[0]))
    outputs = replay.box(feats)
    basis = replay.mask(outputs.features)
    if 'out/train/bbox_pred0' in golden:
        for level, ltrb in enumerate(outputs.ltrb):
            compare(report, golden, f'out/train/bbox_pred{level}', ltrb, atol=1e-5, rtol=1e-4)
    check_assignment(golden, report, replay.box, outputs, gts)
    losses, positives = replay.box.loss_by_feat(outputs, gts)
    samples = replay.mask.select(positives, gts)
    check_samples(golden, report, replay, basis, samples)
    losses |= replay.mask.loss_by_feat(basis, samples, gts, metas)
    for name, loss in losses.items():
        # The benchmark generation calls the box loss loss_reg.
        key = f'out/loss/{name}'
        key = key if key in golden else 'out/loss/loss_reg'
        report.close(key, loss, golden[key], rtol=1e-5)
    total = sum(losses.values())
    report.close('out/loss/total', total, golden['out/loss/total'], rtol=1e-5)
    check_gradients(golden, report, replay, feats, losses['loss_mask'], 'out/grad_loss_mask')
    check_gradients(golden, report, replay, feats, total, 'out/grad_total')


def check_samples(
    golden: Golden, report: Report, replay: Replay, basis: Tensor, samples: list
) -> None:
    """Compare the boxes that enter the mask loss and their composed masks."""
    for b, sample in enumerate(samples):
        key = f'out/train_crop_boxes{b}'
        if key not in golden:
            report.check(f'no mask samples in image {b}', len(sample) == 0)
            continue
        report.close(key, sample.bboxes / 2, golden[key], rtol=1e-4)
        maps = composed(replay.mask, basis[b], sample)
        compare(report, golden, f'out/train_crop_masks{b}', maps, atol=1e-5)


def composed(head: SipMaskHead, basis: Tensor, instances: InstanceData) -> Tensor:
    """Whole maps Tensor[Hb, Wb, n] of probabilities, 0 outside the boxes."""
    size = tuple(basis.shape[-2:])
    pixels = head.pixels(instances.bboxes, instances.coeffs, size)
    probs = pixel_logits(basis, instances.coeffs, pixels).sigmoid()
    return pixels.maps(probs, size).permute(1, 2, 0)


def check_gradients(
    golden: Golden, report: Report, replay: Replay, feats: list[Tensor], loss: Tensor, at: str
) -> None:
    """Compare the recorded gradients of ``loss``: whole tensors, every k-th element, or sums."""
    keys = golden.keys_under(at)
    maps = {f'feat{level}': feat for level, feat in enumerate(feats)}
    names = {key.split('@')[0] for key in keys}
    sources = {name: maps.get(name, replay.parameter(name)) for name in names}
    unused = {name for name, source in sources.items() if source is None}
    for name in unused:
        report.check(f'{at}/{name} vanishes', not np.any(golden[f'{at}/{name}']))
        del sources[name]
    keys = [key for key in keys if key.split('@')[0] not in unused]
    found = torch.autograd.grad(loss, sources.values(), retain_graph=True, allow_unused=True)
    grads = {
        name: torch.zeros_like(source) if grad is None else grad
        for (name, source), grad in zip(sources.items(), found)
    }
    for key in keys:
        name, _, part = key.partition('@')
        ours, recorded = grads[name].reshape(-1), golden[f'{at}/{key}'].reshape(-1)
        if part.startswith('flat::'):
            ours = ours[:: int(part[6:])]
        elif part == 'sum,abssum':
            ours = torch.stack((ours.sum(), ours.abs().sum()))
        vanishes = np.abs(recorded).max() < 1e-5
        report.close(
            f'{at}/{key}', ours, recorded, **({'atol': 1e-5} if vanishes else {'rtol': 1e-4})
        )


def check_detections(
    golden: Golden,
    report: Report,
    replay: Replay,
    outputs: SipMaskOutputs,
    basis: Tensor,
    metas: list[dict],
    cfg: dict,
) -> None:
    """Compare detections, composed masks, soft masks and binary masks, as sets ordered by score."""
    results = replay.box.predict_by_feat(outputs, metas, cfg)
    final = replay.mask.predict_by_feat(basis, results, metas, True, cfg)
    benchmark = 'out/det_scores0' in golden
    for b, (result, instances) in enumerate(zip(results, final)):
        boxes = golden[f'out/det_bboxes{b}']
        scores = golden[f'out/det_scores{b}'] if benchmark else boxes[:, 4]
        order = np.argsort(-scores, kind='stable')
        # Benchmark recordings hold boxes of the resized image and labels from 1.
        ours = result.bboxes if benchmark else instances.bboxes
        labels = instances.labels + benchmark
        report.close(f'det_bboxes{b}', ours, boxes[order, :4], rtol=1e-4)
        report.close(f'det_scores{b}', instances.scores, scores[order], rtol=1e-4)
        report.exact(f'det_labels{b}', labels, golden[f'out/det_labels{b}'][order])
        report.close(
            f'det_crop_boxes{b}',
            result.bboxes / 2,
            golden[f'out/det_crop_boxes{b}'][order],
            rtol=1e-4,
        )
        compare(
            report,
            golden,
            f'out/det_crop_masks{b}',
            composed(replay.mask, basis[b], result),
            atol=1e-5,
        )
        maps = composed(replay.mask, basis[b], result).permute(2, 0, 1)
        soft = soft_masks(maps, metas[b], cfg, golden[f'out/det_soft_mask_shape{b}'])
        for key in golden:
            if key.startswith(f'out/det_soft_masks{b}@'):
                index = parse_slice(key.split('@')[1])
                report.close(key, soft[index], golden[key][order], atol=1e-5)
        recorded = bits(golden, f'out/det_masks{b}', torch.device('cpu'))[order]
        report.exact(f'det_masks{b}', instances.masks, recorded, max_share=1e-4)
        if f'out/det_mask_scores{b}' in golden:
            mask_scores = golden[f'out/det_mask_scores{b}'][order]
            report.close(f'det_mask_scores{b}', instances.mask_scores, mask_scores, rtol=1e-4)


def soft_masks(maps: Tensor, meta: dict, cfg: dict, shape: np.ndarray) -> Tensor:
    """Resized maps before the threshold: Tensor[n, Hb, Wb] -> Tensor[n, h, w] of ``shape``."""
    size = resized_size(tuple(maps.shape[1:]), meta, True, cfg)
    large = F.interpolate(maps[None], size, mode='bilinear', align_corners=False)[0]
    soft = maps.new_zeros(len(maps), *shape.tolist()[1:])
    large = large[:, : soft.shape[1], : soft.shape[2]]
    soft[:, : large.shape[1], : large.shape[2]] = large
    return soft


def check_crop_split(golden: Golden, report: Report, device: torch.device) -> None:
    """Both crop operators and the gradient of the first, exactly."""
    for case in sorted({key.split('/')[1] for key in golden}):
        data = golden.tensor(f'in/{case}/data', device).requires_grad_()
        boxes = golden.tensor(f'in/{case}/rois', device)
        output = crop_split(data, boxes)
        output.backward(golden.tensor(f'in/{case}/grad_out', device))
        cropped = crop_split_gt(golden.tensor(f'in/{case}/gt', device), boxes)
        report.exact(f'{case}/crop_split', output, golden[f'out/{case}/crop_split'])
        report.exact(f'{case}/crop_split_grad', data.grad, golden[f'out/{case}/crop_split_grad'])
        report.exact(f'{case}/crop_split_gt', cropped, golden[f'out/{case}/crop_split_gt'])


def check_mmdet(golden: Golden, report: Report, device: torch.device) -> None:
    """Forward, training and, where recorded, detections of the mmdet generation."""
    cfg = settings(golden)
    replay = mmdet_replay(golden, golden.state_dict(), device)
    feats = features(golden, device)
    outputs = replay.box(feats)
    basis = replay.mask(outputs.features)
    check_forward(golden, report, replay, outputs, basis, 'out')
    metas = [{'img_shape': tuple(cfg['pad_hw'])}] * len(feats[0])
    check_training(golden, report, replay, feats, metas)
    if 'out/det_bboxes0' not in golden:
        return
    metas = []
    for b in range(len(feats[0])):
        scale = golden[f'in/scale_factor{b}'].tolist()
        metas.append(
            {
                'img_shape': tuple(golden[f'in/img_shape{b}'].tolist()[:2]),
                'ori_shape': tuple(golden[f'in/ori_shape{b}'].tolist()[:2]),
                'scale_factor': (scale[0], scale[min(1, len(scale) - 1)]),
            }
        )
    test_cfg = MMDET_REAL_TIME if cfg['ssd_flag'] else MMDET_ACCURATE
    test_cfg = test_cfg | {key: cfg[key] for key in ('nms_pre', 'score_thr', 'max_per_img')}
    with torch.no_grad():
        check_detections(golden, report, replay, outputs, basis, metas, test_cfg)


def check_detection_losses(golden: Golden, report: Report, device: torch.device) -> None:
    """Assignment and detection losses of the mmdet generation, from recorded maps not weights."""
    head = box_head(golden, MMDET_BOX_HEAD).to(device)
    maps = {
        name: [golden.tensor(f'out/{name}{level}', device) for level in range(5)]
        for name in ('cls_score', 'bbox_pred', 'centerness')
    }
    ltrb = [level / stride for level, stride in zip(maps['bbox_pred'], head.strides)]
    outputs = SipMaskOutputs(maps['cls_score'], ltrb, maps['centerness'], {}, [])
    gts = gt_instances(golden, device, len(ltrb[0]))
    check_assignment(golden, report, head, outputs, gts)
    grid = head.grid(outputs.classes)
    points = head.flatten_outputs(outputs.classes, outputs.ltrb, outputs.centers)
    for name, loss in head.detection_loss(points, grid, head.assign(grid, gts), gts).items():
        report.close(f'out/loss/{name}', loss, golden[f'out/loss/{name}'], rtol=1e-5)


def check_mmdet_fullsize(golden: Golden, report: Report, device: torch.device) -> None:
    """Forward at published widths, weights drawn by the recording's rule."""
    replay_shapes = mmdet_shapes()
    weights = {
        key: drawn_weight(key, shape, settings(golden)['seed'])
        for key, shape in replay_shapes.items()
    }
    for key in golden.keys_under('out/wcheck'):
        report.exact(f'wcheck/{key}', weights[key].flatten()[:16], golden[f'out/wcheck/{key}'])
    replay = mmdet_replay(golden, weights, device)
    with torch.no_grad():
        outputs = replay.box(features(golden, device))
        check_forward(golden, report, replay, outputs, replay.mask(outputs.features), 'out')


def check_benchmark(golden: Golden, report: Report, device: torch.device) -> None:
    """Training and, where recorded, forward and detections of the benchmark generation."""
    cfg = settings(golden)
    replay = benchmark_replay(golden, device)
    feats = features(golden, device)
    metas = []
    for b in range(len(feats[0])):
        height, width = golden[f'in/img_hw{b}'].tolist()
        ori_width, ori_height = golden[f'in/ori_wh{b}'].tolist()
        metas.append({'img_shape': (height, width), 'ori_shape': (ori_height, ori_width)})
    check_training(golden, report, replay, feats, metas)
    if 'out/det_bboxes0' not in golden:
        return
    test_cfg = BENCHMARK_TEST | {
        'nms_pre': cfg['pre_nms_top_n'],
        'score_thr': cfg['pre_nms_thresh'],
        'max_per_img': cfg['detections_per_img'],
        'nms': {'type': 'greedy', 'iou_threshold': cfg['nms_thresh'], 'offset': 1},
    }
    with torch.no_grad():
        outputs = replay.box(feats)
        basis = replay.mask(outputs.features)
        check_forward(golden, report, replay, outputs, basis, 'out/eval')
        check_detections(golden, report, replay, outputs, basis, metas, test_cfg)


def _of_images(golden: Golden) -> bool:
    return 'in/feat0' in golden and not any('track' in key or 'ref_' in key for key in golden)


READERS = [
    Reader('crop_split', lambda golden: 'in/case0/rois' in golden, check_crop_split),
    Reader(
        'benchmark head',
        lambda golden: (
            _of_images(golden) and 'w/sip_cof.weight' in golden and 'w/cls_logits.weight' in golden
        ),
        check_benchmark,
    ),
    Reader(
        'mmdet head',
        lambda golden: _of_images(golden) and 'w/fcos_cls.weight' in golden,
        check_mmdet,
    ),
    Reader(
        'mmdet detection losses',
        lambda golden: 'out/cls_score0' in golden and 'in/feat0' not in golden,
        check_detection_losses,
    ),
    Reader(
        'mmdet head, published widths',
        lambda golden: _of_images(golden) and any(key.startswith('out/wcheck/') for key in golden),
        check_mmdet_fullsize,
    ),
]
