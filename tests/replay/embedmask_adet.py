"""Replay recordings of the AdelaiDet generation of EmbedMask."""

import numpy as np
import torch
from mmdet.models.utils import aligned_bilinear
from torch import Tensor

from mmrefine.embedmask.targets import Proposals

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
from .golden import Golden
from .report import Report


def check_adet_loss(golden: Golden, report: Report, device: torch.device) -> None:
    """AdelaiDet generation: positives, targets, all losses, Dice, all recorded gradients."""
    heads = build_heads(golden, device)
    x = features(golden, device, grad=True)
    objects = objects_of(golden, device, first_label=0)
    losses, proposals = heads.losses(x, objects)
    names = dict(
        loss_cls='loss_fcos_cls',
        loss_bbox='loss_fcos_loc',
        loss_centerness='loss_fcos_ctr',
        loss_semantic='loss_sem',
    )
    for name, value in losses.items():
        report.close(name, value, golden[f'out/{names.get(name, name)}'], **LOSS_TOLERANCE)
    check_gradients(golden, report, heads, 'grad', sum(losses.values()), x)
    check_gradients(golden, report, heads, 'grad_mask', losses['loss_mask'], x)
    with torch.no_grad():
        _check_adet_positives(golden, report, heads, x, proposals)
        for i, image in enumerate(objects):
            targets = heads.mask.mask_loss.make_targets(image.masks)
            report.exact(f'gt_bitmasks_{i}', targets, golden[f'out/gt_bitmasks_{i}'] > 0)
        heads.mask.mask_loss.kind = 'dice'
        dice = heads.losses(x, objects)[0]['loss_mask']
        report.close('loss_mask_dice', dice, golden['out/loss_mask_dice'], **LOSS_TOLERANCE)


def _check_adet_positives(
    golden: Golden, report: Report, heads: Heads, x: list[Tensor], proposals: Proposals
) -> None:
    """Recorded level by level, then image by image; objects are counted through the batch."""
    grid = heads.bbox.grid(x)
    image, point = (proposals.gt_index >= 0).nonzero(as_tuple=True)
    counts = [0]
    while f'in/gt_labels_{len(counts) - 1}' in golden:
        counts.append(counts[-1] + len(golden[f'in/gt_labels_{len(counts) - 1}']))
    level = grid.levels[point]
    order = torch.argsort(level * len(counts) + image, stable=True)
    image, point = image[order], point[order]
    objects = proposals.gt_index[image, point] + torch.tensor(counts, device=image.device)[image]
    report.exact('pos_im_inds', image, golden['out/pos_im_inds'])
    report.exact('pos_fpn_levels', level[order], golden['out/pos_fpn_levels'])
    report.exact('pos_locations', grid.points[point], golden['out/pos_locations'])
    report.exact('pos_gt_inds', objects, golden['out/pos_gt_inds'])
    vectors = torch.cat((proposals.embeds[image, point], proposals.margins[image, point]), dim=1)
    report.close('pos_top_feats', vectors, golden['out/pos_top_feats'], **HEAD_TOLERANCE)
    # the original's masks branch normalises with batch statistics, as the heads here still do
    report.close(
        'pixel_embed',
        heads.mask(x, heads.bbox.position()),
        golden['out/pixel_embed'],
        **HEAD_TOLERANCE,
    )


@torch.no_grad()
def check_adet_infer(golden: Golden, report: Report, device: torch.device) -> None:
    """AdelaiDet generation: head outputs, detections, soft and final masks, aligned doubling."""
    heads = build_heads(golden, device)
    heads.bbox.eval(), heads.mask.eval()
    x = features(golden, device)
    metas = image_metas(golden['in/image_sizes_hw'], golden['in/orig_sizes_hw'])
    maps = heads.bbox(x)
    for level, (embed, margin) in enumerate(zip(maps.embeds, maps.margins)):
        report.close(
            f'top_feats_{level}',
            torch.cat((embed, margin), 1),
            golden[f'out/top_feats_{level}'],
            **HEAD_TOLERANCE,
        )
        report.close(
            f'ctrness_{level}',
            maps.center_logits[level],
            golden[f'out/ctrness_{level}'],
            **HEAD_TOLERANCE,
        )
        report.close(
            f'bbox_reg_{level}',
            maps.ltrb_stride[level],
            golden[f'out/bbox_reg_{level}'],
            **HEAD_TOLERANCE,
        )
    pixels = heads.mask(x, heads.bbox.position())
    report.close('pixel_embed', pixels, golden['out/pixel_embed'], **HEAD_TOLERANCE)
    results = heads.bbox.predict_by_feat(maps, metas)
    exported = heads.mask.predict_by_feat(pixels, results, metas)
    for i, (result, meta) in enumerate(zip(results, metas)):
        mine = np.flatnonzero(golden['out/im_inds'] == i)
        order = mine[np.argsort(-golden['out/scores'][mine], kind='stable')]
        report.exact(f'labels_{i}', result.labels, golden['out/labels'][order])
        report.close(f'scores_{i}', result.scores, golden['out/scores'][order], atol=1e-5)
        soft = heads.mask.output.soft_maps(pixels[i], result.embeds, result.margins, result.bboxes)
        # recorded in half precision
        report.close(
            f'mask_prob_stride4_{i}', soft, golden['out/mask_prob_stride4'][order], atol=1e-3
        )
        final = np.argsort(-golden[f'out/final_scores_{i}'], kind='stable')
        boxes = exported[i].bboxes
        report.close(f'final_boxes_{i}', boxes, golden[f'out/final_boxes_{i}'][final], atol=1e-3)
        reference = unpack_masks(golden[f'out/final_masks_{i}'][final], meta['ori_shape'][1])
        compare_masks(report, f'final_masks_{i}', exported[i].masks, reference)
    unit = golden.tensor('in/aligned_bilinear', device)
    for factor in (2, 4):
        name = f'aligned_bilinear_x{factor}'
        report.close(name, aligned_bilinear(unit, factor), golden[f'out/{name}'], atol=1e-5)
