"""Replay recordings of the four EmbedMask generations: heads, losses with gradients, inference, whole model."""

from dataclasses import dataclass

import numpy as np
import torch
from mmdet.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmrefine.embedmask import EmbedMaskBBoxHead, EmbedMaskHead
from mmrefine.embedmask.checkpoint import ADELAIDET, BENCHMARK, CONVERTERS, _rename
from mmrefine.embedmask.kernel import mask_exponent
from mmrefine.embedmask.proposal import Proposals
from mmrefine.masks import to_dense

from .embedmask_units import check_units
from .golden import Golden
from .report import Report
from .run import Reader

HEAD_TOLERANCE = dict(atol=1e-4, rtol=1e-4)
LOSS_TOLERANCE = dict(rtol=1e-5)
GRADIENT_TOLERANCE = dict(rtol=2e-3)
MAX_MASK_SHARE = 5e-4

PROPOSAL = dict(
    v1=dict(coord_embed=False, margin_source='box', margin_dims='one'),
    v2=dict(margin_dims='one'),
    v3=dict(),
    adet=dict(learn_position_scale=False, reduce_channels=128),
)
MASK_LOSS = dict(
    v1=dict(select='mean', average='objects', min_probability=0.0, box_padding=0.1, smooth_weight=0.1),
    v2=dict(box_padding=0.1),
    v3=dict(),
    adet=dict(
        select='all',
        average='batch',
        targets='sampled',
        min_probability=1e-6,
        max_proposals=500,
        loss_weight=1.0,
    ),
)
OUTPUT = dict(
    v1=dict(box_halo=1),
    v2=dict(box_halo=1),
    v3=dict(box_halo=2, truncate_boxes=True, log_space=True),
    adet=dict(box_halo=None),
)


@dataclass
class Heads:
    """Both heads with the recorded weights, and the names of their parameters in the original."""

    bbox: EmbedMaskBBoxHead
    mask: EmbedMaskHead
    names: dict[str, str]

    def parameter(self, official: str) -> nn.Parameter:
        """The parameter that the original calls so."""
        head, name = self.names[official].split('.', 1)
        return dict((self.bbox if head == 'bbox_head' else self.mask).named_parameters())[name]


def _variant(weights: dict[str, Tensor]) -> str:
    return next(c.name for c in CONVERTERS if c.recognise(weights)).removeprefix('embedmask-')


def _official(golden: Golden) -> dict[str, Tensor]:
    """Recorded weights under their complete official names (head files leave out a prefix)."""
    weights = golden.state_dict()
    if any(key.startswith(('rpn.', 'proposal_')) and '.' in key for key in weights if 'head.' in key):
        return weights
    return {f'rpn.head.{key}': value for key, value in weights.items()}


def build_heads(golden: Golden, device: torch.device) -> Heads:
    """Both heads as the file's weights and settings demand."""
    meta, official = golden.json('meta'), _official(golden)
    variant = _variant(official)
    converter = next(c for c in CONVERTERS if c.name == f'embedmask-{variant}')
    weights = converter.convert(official)
    cfg, adet = meta.get('cfg', {}), variant == 'adet'
    channels = meta.get('in_channels') or meta['fpn_channels']
    embed_dim = next(len(v) for k, v in weights.items() if k.endswith(('conv_embed.weight', 'conv_embed_free.weight')))
    embed_dim += 0 if variant == 'v1' else 2
    test_cfg = dict(
        score_thr=meta.get('score_thr', 0.05),
        nms_pre=meta.get('pre_nms_top_n', 1000),
        nms=dict(iou_threshold=meta.get('nms_thr', 0.6)),
        max_per_img=meta.get('detections_per_img', 100),
        mask_thr=meta.get('mask_th', 0.53 if variant in ('v2', 'v3') else 0.5),
        filter_by_product=adet,
        sqrt_score=adet,
        clip_before_nms=not adet,
    )
    bbox = EmbedMaskBBoxHead(
        num_classes=meta['num_classes'],
        in_channels=channels,
        feat_channels=channels,
        strides=meta.get('strides', (8, 16, 32, 64, 128)),
        proposal=dict(embed_dim=embed_dim, **PROPOSAL[variant]),
        sample_in_mask=cfg.get('SAMPLE_IN_MASK', not adet),
        center='mask' if adet else 'box',
        inclusive_boxes=not adet,
        loss_bbox=dict(type='LtrbIoULoss', kind='giou', offset=1.0, hull_eps=0.0 if adet else 1e-7),
        test_cfg=test_cfg,
    )
    loss = dict(MASK_LOSS[variant])
    if 'BOX_PADDING' in cfg:
        loss['box_padding'] = cfg['BOX_PADDING'] if cfg['BOX_PADDING'] >= 0 else None
    mask = EmbedMaskHead(
        num_classes=meta['num_classes'],
        in_channels=channels,
        feat_channels=meta.get('mask_branch_channels', channels),
        embed_dim=embed_dim,
        coord_embed=variant != 'v1',
        branch='merged' if adet else 'finest',
        enlarge='aligned' if adet else 'bilinear',
        loss=loss,
        loss_semantic=dict(type='FocalLoss', use_sigmoid=True) if adet else None,
        output=OUTPUT[variant],
        test_cfg=test_cfg,
    )
    for name, head in (('bbox_head', bbox), ('mask_head', mask)):
        head.load_state_dict(
            {k.removeprefix(f'{name}.'): v for k, v in weights.items() if k.startswith(f'{name}.')}
        )
        head.to(device)
    rules = ADELAIDET if adet else BENCHMARK
    return Heads(bbox, mask, {key: _rename(key, rules) for key in official if _rename(key, rules)})


def _features(golden: Golden, device: torch.device, grad: bool = False) -> list[Tensor]:
    return [golden.tensor(f'in/feat{i}', device).requires_grad_(grad) for i in range(5)]


def check_head(golden: Golden, report: Report, device: torch.device) -> None:
    """All outputs of both heads, in both units of the box output."""
    heads = build_heads(golden, device)
    x = _features(golden, device)
    with torch.no_grad():
        maps = heads.bbox(x)
        report.close('pixel_embed', heads.mask(x, heads.bbox.position()), golden['out/pixel_embed'], **HEAD_TOLERANCE)
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


def _objects(golden: Golden, device: torch.device, first_label: int) -> list[InstanceData]:
    """Recorded objects; their boxes are already what the head calls native."""
    height, width = golden.json('meta')['padded_hw']
    objects = []
    while f'in/gt_boxes_{len(objects)}' in golden:
        i = len(objects)
        masks = golden.tensor(f'in/gt_masks_{i}', device).bool()
        canvas = masks.new_zeros(len(masks), height, width)
        canvas[:, : masks.shape[1], : masks.shape[2]] = masks
        objects.append(InstanceData(
            bboxes=golden.tensor(f'in/gt_boxes_{i}', device),
            labels=golden.tensor(f'in/gt_labels_{i}', device) - first_label,
            masks=canvas,
        ))
    return objects


def _gradient_error(report: Report, name: str, ours: Tensor, reference: np.ndarray) -> None:
    """Length of the difference over length of the recorded gradient."""
    reference = torch.from_numpy(reference).to(ours)
    length = reference.norm().clamp(min=1e-12)
    report.close(name, (ours.reshape(reference.shape) - reference).norm() / length, 0.0, atol=GRADIENT_TOLERANCE['rtol'])


def _check_gradients(
    golden: Golden, report: Report, heads: Heads, prefix: str, loss: Tensor, x: list[Tensor]
) -> None:
    keys = golden.keys_under(prefix)
    if not keys:
        return
    complete = {k: k if k in heads.names else f'rpn.head.{k}' for k in keys}
    wanted = [heads.parameter(complete[key]) for key in keys]
    grads = torch.autograd.grad(loss, [*wanted, *x], retain_graph=True, allow_unused=True)
    for key, parameter, grad in zip(keys, wanted, grads):
        grad = torch.zeros_like(parameter) if grad is None else grad
        _gradient_error(report, f'{prefix}/{key}', grad, golden[f'{prefix}/{key}'])
    if prefix == 'grad':
        for key in golden.keys_under('grad_in'):
            grad = grads[len(keys) + int(key.removeprefix('feat'))]
            reference = golden[f'grad_in/{key}']
            if reference.shape != tuple(grad.shape):
                step = grad.shape[1] // reference.shape[1]
                grad = grad[: len(reference), ::step]
            _gradient_error(report, f'grad_in/{key}', grad, reference)


def check_loss(golden: Golden, report: Report, device: torch.device) -> None:
    """v1-v3: targets, chosen proposals, every loss, every recorded gradient."""
    heads = build_heads(golden, device)
    x = _features(golden, device, grad=True)
    objects = _objects(golden, device, first_label=1)
    losses, proposals = heads.bbox.loss_and_proposals(x, objects)
    losses.update(heads.mask.loss(x, objects, proposals, heads.bbox.position()))
    names = dict(loss_bbox='loss_reg', loss_mask='mask_loss', loss_smooth='smooth_loss')
    for name, value in losses.items():
        report.close(name, value, golden[f'out/{names.get(name, name)}'], **LOSS_TOLERANCE)
    total = sum(losses.values())
    report.close('total', total, golden['out/total'], **LOSS_TOLERANCE)
    _check_gradients(golden, report, heads, 'grad', total, x)
    _check_gradients(golden, report, heads, 'grad_mask', losses['loss_mask'], x)
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
    report.close('reg_targets', targets.ltrb * positive[..., None], golden['out/reg_targets'], atol=1e-3)
    labels = torch.stack([
        torch.cat((o.labels + 1, o.labels.new_zeros(1)))[index] for o, index in zip(objects, targets.gt_index)
    ])
    report.exact('labels', labels, golden['out/labels'])
    pixels = heads.mask(x, heads.bbox.position())
    report.close('pixel_embed', pixels, golden['out/pixel_embed'], **HEAD_TOLERANCE)
    enlarged = heads.mask.training_map(pixels)
    for i, objects_i in enumerate(objects):
        loss = heads.mask.mask_loss
        report.exact(f'mask_targets_{i}', loss.make_targets(objects_i.masks), golden[f'out/mask_targets_{i}'] > 0)
        chosen = loss.choose(proposals, proposals.gt_index, i, len(objects_i.bboxes))
        order = torch.argsort(chosen.gt_index)
        first = order[: len(golden[f'out/mask_prob_{i}'])]
        maps = torch.exp(-mask_exponent(enlarged[i], chosen.embeds[first], chosen.margins[first]))
        report.close(f'mask_prob_{i}', maps, golden[f'out/mask_prob_{i}'], **HEAD_TOLERANCE)
        if f'out/mask_loss_per_gt_{i}' in golden:
            each = loss.instance_losses(enlarged[i], chosen, objects_i.bboxes, objects_i.masks)[order]
            report.close(f'mask_loss_per_gt_{i}', each, golden[f'out/mask_loss_per_gt_{i}'], **LOSS_TOLERANCE)
        _check_chosen(golden, report, loss.select, loss.min_overlap, proposals, i, len(objects_i.bboxes))


def _check_chosen(
    golden: Golden, report: Report, select: str, threshold: float, proposals: Proposals, image: int, count: int
) -> None:
    """Grid positions of the proposals that learn, object by object."""
    from mmrefine.embedmask.targets import best_of_group, overlapping_of_group

    index = (proposals.gt_index[image] >= 0).nonzero().squeeze(1)
    groups, overlap = proposals.gt_index[image, index], proposals.overlap[image, index]
    recorded = golden[f'out/pos_proposal_idx_{image}']
    if select == 'mean':
        keep = overlapping_of_group(overlap, groups, count, threshold)
        order = torch.argsort(groups[keep], stable=True)
        report.exact(f'pos_proposal_idx_{image}', index[keep][order], recorded)
        counts = torch.bincount(groups[keep], minlength=count)
        report.exact(f'pos_proposal_count_{image}', counts, golden[f'out/pos_proposal_count_{image}'])
    else:
        keep = best_of_group(overlap, groups, count)
        best = torch.full((count,), -1, device=index.device).scatter(0, groups[keep], index[keep])
        report.exact(f'pos_proposal_idx_{image}', best, recorded)


def _metas(network: np.ndarray, original: np.ndarray) -> list[dict]:
    return [
        dict(
            img_shape=tuple(map(int, size)),
            ori_shape=tuple(map(int, old)),
            scale_factor=(float(size[1] / old[1]), float(size[0] / old[0])),
        )
        for size, old in zip(network, original)
    ]


def unpack_masks(packed: np.ndarray, width: int) -> np.ndarray:
    """Undo ``np.packbits`` along the last axis."""
    return np.unpackbits(packed, axis=-1)[..., :width] > 0


def _compare_masks(report: Report, name: str, masks: Tensor | list[dict], reference: np.ndarray) -> None:
    dense = to_dense(masks, reference.shape[1:]).cpu().numpy()
    report.exact(name, dense, reference, max_share=MAX_MASK_SHARE)


@torch.no_grad()
def check_infer(golden: Golden, report: Report, device: torch.device) -> None:
    """v1-v3: detections, soft maps, masks and boxes of the original image, both mask formats."""
    heads = build_heads(golden, device)
    heads.bbox.eval(), heads.mask.eval()
    x = _features(golden, device)
    metas = _metas(golden['in/image_sizes_hw'], golden['in/orig_sizes_hw'])
    check_detections(golden, report, heads, x, metas)


def check_detections(
    golden: Golden, report: Report, heads: Heads, x: list[Tensor], metas: list[dict]
) -> None:
    """Compare everything that follows from the pyramid, recorded in the original's order."""
    results = heads.bbox.predict_instances(x, metas)
    pixels = heads.mask.training_map(heads.mask(x, heads.bbox.position()))
    heads.mask.test_cfg['mask_format'] = 'dense'
    masks = heads.mask.predict_masks(x, results, metas, heads.bbox.position())
    heads.mask.test_cfg['mask_format'] = 'rle'
    rles = heads.mask.predict_masks(x, results, metas, heads.bbox.position())
    network = heads.mask.predict_masks(x, results, metas, heads.bbox.position(), rescale=False)
    for i, (result, meta) in enumerate(zip(results, metas)):
        order = np.argsort(-golden[f'out/scores_{i}'], kind='stable')

        def recorded(name: str) -> np.ndarray:
            return golden[f'out/{name}_{i}'][order]

        report.exact(f'labels_{i}', result.labels + 1, recorded('labels'))
        report.close(f'scores_{i}', result.scores, recorded('scores'), atol=1e-5)
        report.close(f'boxes_{i}', result.bboxes, recorded('boxes'), atol=1e-3)
        for name, value in (('embed', result.embeds), ('margin', result.margins)):
            if f'out/det_proposal_{name}_{i}' in golden:
                report.close(f'{name}_{i}', value, recorded(f'det_proposal_{name}'), **HEAD_TOLERANCE)
        if f'out/mask_map_{i}' in golden:
            maps = heads.mask.output.soft_maps(pixels[i], result.embeds, result.margins, result.bboxes)
            report.close(f'mask_map_{i}', maps, recorded('mask_map'), **HEAD_TOLERANCE)
        boxes = heads.bbox.export_boxes(result.bboxes, meta, rescale=True)
        xywh = torch.cat((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), dim=1)
        report.close(f'coco_boxes_{i}', xywh, recorded('coco_boxes_xywh'), atol=1e-3)
        coco = unpack_masks(recorded('coco_masks'), meta['ori_shape'][1])
        _compare_masks(report, f'coco_masks_{i}', masks[i], coco)
        _compare_masks(report, f'coco_masks_{i} (rle)', rles[i], coco)
        if f'out/postprocessed_masks_{i}' in golden:
            small = unpack_masks(recorded('postprocessed_masks'), meta['img_shape'][1])
            _compare_masks(report, f'postprocessed_masks_{i}', network[i], small)


READERS = [
    Reader('single functions', lambda g: 'in/lovasz_prob_x' in g, check_units),
    Reader('head outputs', lambda g: 'out/locations_0' in g, check_head),
    Reader('losses and gradients', lambda g: 'out/mask_loss' in g, check_loss),
    Reader('inference', lambda g: 'out/mask_map_0' in g, check_infer),
]
