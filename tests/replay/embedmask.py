"""Replay recordings of EmbedMask v1-v3: heads, losses with gradients, inference, whole model."""

import numpy as np
import torch
from mmdet.registry import MODELS, TRANSFORMS
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor

from mmrefine.embedmask.checkpoint import CONVERTERS
from mmrefine.embedmask.kernel import mask_exponent
from mmrefine.embedmask.targets import Proposals, learning_points

from .embedmask_adet import check_adet_infer, check_adet_loss
from .embedmask_heads import (
    HEAD_TOLERANCE,
    LOSS_TOLERANCE,
    Heads,
    build_heads,
    check_gradients,
    compare_masks,
    features,
    image_metas,
    objects_of,
    unpack_masks,
)
from .embedmask_units import check_units
from .golden import Golden
from .report import Report
from .run import Reader


def check_head(golden: Golden, report: Report, device: torch.device) -> None:
    """All outputs of both heads, in both units of the box output."""
    heads = build_heads(golden, device)
    x = features(golden, device)
    with torch.no_grad():
        maps = heads.bbox(x)
        report.close(
            'pixel_embed',
            heads.mask(x, heads.bbox.position()),
            golden['out/pixel_embed'],
            **HEAD_TOLERANCE,
        )
    grid = heads.bbox.grid(maps.class_logits)
    for level, points in enumerate(grid.points.split(grid.counts)):
        stride = heads.bbox.strides[level]
        report.exact(f'locations_{level}', points, golden[f'out/locations_{level}'])
        for name, value in (
            ('cls_logits', maps.class_logits[level]),
            ('bbox_reg', maps.ltrb_stride[level]),
            ('bbox_reg_eval', maps.ltrb_stride[level] * stride),
            ('centerness', maps.center_logits[level]),
            ('proposal_embed', maps.embeds[level]),
            ('proposal_margin', maps.margins[level]),
        ):
            report.close(f'{name}_{level}', value, golden[f'out/{name}_{level}'], **HEAD_TOLERANCE)


def check_loss(golden: Golden, report: Report, device: torch.device) -> None:
    """v1-v3: targets, chosen proposals, every loss, every recorded gradient."""
    heads = build_heads(golden, device)
    x = features(golden, device, grad=True)
    objects = objects_of(golden, device, first_label=1)
    losses, proposals = heads.losses(x, objects)
    names = dict(loss_bbox='loss_reg', loss_mask='mask_loss', loss_smooth='smooth_loss')
    for name, value in losses.items():
        report.close(name, value, golden[f'out/{names.get(name, name)}'], **LOSS_TOLERANCE)
    total = sum(losses.values())
    report.close('total', total, golden['out/total'], **LOSS_TOLERANCE)
    check_gradients(golden, report, heads, 'grad', total, x)
    check_gradients(golden, report, heads, 'grad_mask', losses['loss_mask'], x)
    with torch.no_grad():
        _check_targets(golden, report, heads, x, objects, proposals)


def _check_targets(
    golden: Golden,
    report: Report,
    heads: Heads,
    x: list[Tensor],
    objects: list[InstanceData],
    proposals: Proposals,
) -> None:
    targets = heads.bbox.assign(heads.bbox.grid(x), objects)
    positive = targets.gt_index >= 0
    report.exact('matched_idxes', targets.gt_index, golden['out/matched_idxes'])
    report.close(
        'reg_targets', targets.ltrb * positive[..., None], golden['out/reg_targets'], atol=1e-3
    )
    labels = torch.stack(
        [
            torch.cat((o.labels + 1, o.labels.new_zeros(1)))[index]
            for o, index in zip(objects, targets.gt_index)
        ]
    )
    report.exact('labels', labels, golden['out/labels'])
    pixels = heads.mask(x, heads.bbox.position())
    report.close('pixel_embed', pixels, golden['out/pixel_embed'], **HEAD_TOLERANCE)
    enlarged = heads.mask.training_map(pixels)
    for i, objects_i in enumerate(objects):
        loss = heads.mask.mask_loss
        report.exact(
            f'mask_targets_{i}',
            loss.make_targets(objects_i.masks),
            golden[f'out/mask_targets_{i}'] > 0,
        )
        chosen = loss.choose(proposals, proposals.gt_index, i, len(objects_i.bboxes))
        order = torch.argsort(chosen.gt_index)
        maps = torch.exp(-mask_exponent(enlarged[i], chosen.embeds[order], chosen.margins[order]))
        if loss.select == 'mean':
            # recorded for the first objects, zeros where an object has no proposal
            full = maps.new_zeros(len(objects_i.bboxes), *maps.shape[1:])
            maps = full.index_copy(0, chosen.gt_index[order], maps)
        recorded = golden[f'out/mask_prob_{i}']
        report.close(f'mask_prob_{i}', maps[: len(recorded)], recorded, **HEAD_TOLERANCE)
        if f'out/mask_loss_per_gt_{i}' in golden:
            each = loss.instance_losses(enlarged[i], chosen, objects_i.bboxes, objects_i.masks)[
                order
            ]
            report.close(
                f'mask_loss_per_gt_{i}', each, golden[f'out/mask_loss_per_gt_{i}'], **LOSS_TOLERANCE
            )
        _check_chosen(
            golden, report, loss.select, loss.min_overlap, proposals, i, len(objects_i.bboxes)
        )


def _check_chosen(
    golden: Golden,
    report: Report,
    select: str,
    threshold: float,
    proposals: Proposals,
    image: int,
    count: int,
) -> None:
    """Grid positions of the proposals that learn, object by object."""
    overlap, gt_index = proposals.overlap[image], proposals.gt_index[image]
    index = learning_points(overlap, gt_index, count, select, threshold)
    groups = gt_index[index]
    recorded = golden[f'out/pos_proposal_idx_{image}']
    if select == 'mean':
        order = torch.argsort(groups, stable=True)
        report.exact(f'pos_proposal_idx_{image}', index[order], recorded)
        counts = torch.bincount(groups, minlength=count)
        report.exact(
            f'pos_proposal_count_{image}', counts, golden[f'out/pos_proposal_count_{image}']
        )
    else:
        best = torch.full((count,), -1, device=index.device).scatter(0, groups, index)
        report.exact(f'pos_proposal_idx_{image}', best, recorded)


@torch.no_grad()
def check_infer(golden: Golden, report: Report, device: torch.device) -> None:
    """v1-v3: detections, soft maps, masks and boxes of the original image, both mask formats."""
    heads = build_heads(golden, device)
    heads.bbox.eval(), heads.mask.eval()
    x = features(golden, device)
    metas = image_metas(golden['in/image_sizes_hw'], golden['in/orig_sizes_hw'])
    check_detections(golden, report, heads, x, metas)


def check_detections(
    golden: Golden, report: Report, heads: Heads, x: list[Tensor], metas: list[dict]
) -> None:
    """Compare everything that follows from the pyramid, recorded in the original's order."""
    results = heads.bbox.predict_by_feat(heads.bbox(x), metas)
    pixels = heads.mask(x, heads.bbox.position())
    args, offset, cfg = (pixels, results, metas), heads.bbox.pixel_offset, heads.mask.test_cfg
    dense = heads.mask.predict_by_feat(*args, True, offset, cfg | dict(mask_format='dense'))
    rles = heads.mask.predict_by_feat(*args, True, offset, cfg | dict(mask_format='rle'))
    network = heads.mask.predict_by_feat(*args, False, offset, cfg | dict(mask_format='rle'))
    enlarged = heads.mask.training_map(pixels)
    for i, (result, meta) in enumerate(zip(results, metas)):
        order = np.argsort(-golden[f'out/scores_{i}'], kind='stable')

        def recorded(name: str) -> np.ndarray:
            return golden[f'out/{name}_{i}'][order]

        report.exact(f'labels_{i}', result.labels + 1, recorded('labels'))
        report.close(f'scores_{i}', result.scores, recorded('scores'), atol=1e-5)
        report.close(f'boxes_{i}', result.bboxes, recorded('boxes'), atol=1e-3)
        for name, value in (('embed', result.embeds), ('margin', result.margins)):
            if f'out/det_proposal_{name}_{i}' in golden:
                report.close(
                    f'{name}_{i}', value, recorded(f'det_proposal_{name}'), **HEAD_TOLERANCE
                )
        if f'out/mask_map_{i}' in golden:
            maps = heads.mask.output.soft_maps(
                enlarged[i], result.embeds, result.margins, result.bboxes
            )
            report.close(f'mask_map_{i}', maps, recorded('mask_map'), **HEAD_TOLERANCE)
        boxes = dense[i].bboxes
        xywh = torch.cat((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), dim=1)
        report.close(f'coco_boxes_{i}', xywh, recorded('coco_boxes_xywh'), atol=1e-3)
        coco = unpack_masks(recorded('coco_masks'), meta['ori_shape'][1])
        compare_masks(report, f'coco_masks_{i}', dense[i].masks, coco)
        compare_masks(report, f'coco_masks_{i} (rle)', rles[i].masks, coco)
        if f'out/postprocessed_masks_{i}' in golden:
            small = unpack_masks(recorded('postprocessed_masks'), meta['img_shape'][1])
            compare_masks(report, f'postprocessed_masks_{i}', network[i].masks, small)


def check_full(golden: Golden, report: Report, device: torch.device) -> None:
    """Images to masks: transforms, backbone, pyramid, detections."""
    meta = golden.json('meta')
    official = golden.state_dict()
    heads = build_heads(golden, device)
    weights = next(c for c in CONVERTERS if c.recognise(official)).convert(official)
    width = len(weights['backbone.conv1.weight'])
    base = len(weights['backbone.layer1.0.conv1.weight'])
    backbone = MODELS.build(
        dict(
            type='ResNet',
            depth=50,
            base_channels=base,
            stem_channels=width,
            norm_cfg=dict(type='BN', requires_grad=False),
            norm_eval=True,
            style='caffe',
        )
    )
    neck = MODELS.build(
        dict(
            type='FPN',
            in_channels=[base * 4 * 2**i for i in range(4)],
            out_channels=meta['fpn_channels'],
            start_level=1,
            add_extra_convs='on_output',
            num_outs=5,
            relu_before_extra_convs=True,
        )
    )
    for name, part in (('backbone.', backbone), ('neck.', neck)):
        part.load_state_dict(
            {k.removeprefix(name): v for k, v in weights.items() if k.startswith(name)}
        )
        part.to(device).eval()
    heads.bbox.eval(), heads.mask.eval()
    batch, metas = _preprocess(golden, report, meta)
    with torch.no_grad():
        stages = backbone(batch.to(device))
        x = neck(stages)
        for i, stage in enumerate(stages, start=2):
            report.close(f'c{i}', stage[:, :8], golden[f'out/c{i}'], **HEAD_TOLERANCE)
        for i, level in enumerate(x, start=3):
            report.close(f'p{i}', level, golden[f'out/p{i}'], **HEAD_TOLERANCE)
        check_detections(golden, report, heads, list(x), metas)


def _preprocess(golden: Golden, report: Report, meta: dict) -> tuple[Tensor, list[dict]]:
    """Resize by the original's size rule, normalise and pad with stock transforms."""
    transform = TRANSFORMS.build(
        dict(type='TruncatedResize', scale=(meta['max_size'], meta['min_size']))
    )
    preprocessor = MODELS.build(
        dict(
            type='DetDataPreprocessor',
            mean=meta['pixel_mean_bgr'],
            std=meta['pixel_std'],
            pad_size_divisor=meta['size_divisible'],
        )
    )
    inputs, samples = [], []
    while f'in/image_rgb_{len(inputs)}' in golden:
        image = golden[f'in/image_rgb_{len(inputs)}']
        packed = transform(
            dict(img=np.ascontiguousarray(image[..., ::-1]), img_shape=image.shape[:2])
        )
        sample = DetDataSample(
            metainfo=dict(
                img_shape=packed['img'].shape[:2],
                ori_shape=image.shape[:2],
                scale_factor=(
                    packed['img'].shape[1] / image.shape[1],
                    packed['img'].shape[0] / image.shape[0],
                ),
            )
        )
        inputs.append(torch.from_numpy(packed['img']).permute(2, 0, 1))
        samples.append(sample)
    batch = preprocessor(dict(inputs=inputs, data_samples=samples))
    for i, sample in enumerate(samples):
        height, width = sample.img_shape
        report.close(
            f'preprocessed_{i}',
            batch['inputs'][i, :, :height, :width],
            golden[f'out/preprocessed_{i}'],
            atol=1e-4,
        )
    report.exact('batch_shape', np.array(batch['inputs'].shape), golden['out/batch_shape'])
    return batch['inputs'], [sample.metainfo for sample in samples]


READERS = [
    Reader('single functions', lambda g: 'in/lovasz_prob_x' in g, check_units),
    Reader('head outputs', lambda g: 'out/locations_0' in g, check_head),
    Reader('losses and gradients', lambda g: 'out/mask_loss' in g, check_loss),
    Reader('whole model', lambda g: 'in/image_rgb_0' in g, check_full),
    Reader('AdelaiDet losses and gradients', lambda g: 'out/loss_mask_dice' in g, check_adet_loss),
    Reader('AdelaiDet inference', lambda g: 'out/top_feats_0' in g, check_adet_infer),
    Reader('inference', lambda g: 'out/mask_map_0' in g, check_infer),
]
