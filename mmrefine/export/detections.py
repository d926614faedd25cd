"""From images to detections in operators that ONNX has: what goes before the masks of ``parts``.

Box layers, anchors, points and box coders are the model's own. What the model cuts to lists whose
length depends on the values is written here with fixed shapes and ``class_nms``.

Shapes:   P points or anchors of all levels, K classes, R RoIs, n detections.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from mmdet.models.dense_heads import RPNHead
from mmdet.models.roi_heads import CascadeRoIHead, StandardRoIHead
from torch import Tensor, nn

from mmrefine.fcos import FCOSHeadBase, decode_ltrb, flatten_levels
from mmrefine.fcos.candidates import DEFAULT_NMS
from mmrefine.fcos.nms import overlaps_more

from .parts import Part, RoIPart, part_of
from .pooling import check_extractor, pool
from .suppression import class_nms


class Found(NamedTuple):
    """Detections of one image, best first."""

    boxes: Tensor  # Tensor[n, 4], pixels of the network input
    scores: Tensor  # Tensor[n]
    labels: Tensor  # LongTensor[n]
    index: Tensor  # LongTensor[n], point or RoI of each


class DetectorGraph(nn.Module):
    """One normalised and padded image Tensor[1, 3, H, W] and the size ``(h, w)`` Tensor[2] of its
    part without padding -> ``output_names``: boxes in pixels of the network input, scores, labels,
    and the outputs of the mask part.

    Raises:
        TypeError: No model with a mask part, or one whose detections have no graph.
        ValueError: A setting without ONNX form.
    """

    input_names = ('image', 'size')

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.part: Part = part_of(model.eval())
        self.model = model
        self.output_names = ('boxes', 'scores', 'labels', *self.part.output_names)
        if isinstance(self.part, RoIPart):
            _check_two_stages(model)
        elif not isinstance(getattr(model, 'bbox_head', None), FCOSHeadBase):
            raise TypeError(
                f'{type(model).__name__} is exported without its detections only; whole detectors '
                'are two-stage ones with one mask head, SipMask and EmbedMask'
            )
        elif getattr(model.mask_head, 'enlarge', None) == 'aligned':
            raise ValueError(
                "masks enlarged with enlarge='aligned' (AdelaiDet generation) are exported without "
                'detections only'
            )

    def forward(self, image: Tensor, size: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        x = self.model.extract_feat(image)
        limit = size.flip(0).float()  # (2), width and height
        if isinstance(self.part, RoIPart):
            found = roi_detections(self.model, x, limit)
            rois = torch.cat([torch.zeros_like(found.boxes[:, :1]), found.boxes], dim=1)
            masks = self.part.masks(x, (rois, found.labels))
            return (*found[:3], *_tuple(masks))
        found, values, maps = point_detections(self.model.bbox_head, x, limit)
        known = dict(values, boxes=found.boxes, labels=found.labels)
        objects = [known[name] for name in self.part.object_names]
        return (*found[:3], *_tuple(self.part.masks(maps or x, objects)))


def _tuple(masks: Tensor | tuple) -> tuple:
    return masks if isinstance(masks, tuple) else (masks,)


def _check_two_stages(model: nn.Module) -> None:
    roi_head = model.roi_head
    stock = isinstance(roi_head, StandardRoIHead) and not isinstance(roi_head, CascadeRoIHead)
    if type(model.rpn_head) is not RPNHead or not stock:
        raise TypeError(
            f'{type(model.rpn_head).__name__} and {type(roi_head).__name__} are exported without '
            'their detections only; whole two-stage detectors have RPNHead and one stage of boxes'
        )
    check_extractor(roi_head.bbox_roi_extractor)
    for cfg in (model.test_cfg.rpn.nms, model.test_cfg.rcnn.nms):
        _require_nms(cfg, ('nms',))


def _require_nms(cfg: Mapping[str, Any] | None, kinds: Sequence[str]) -> None:
    if cfg is None or cfg.get('type') not in kinds or cfg.get('class_agnostic'):
        raise ValueError(f'nms={cfg} has no ONNX form here: type must be one of {kinds}')


def roi_detections(model: nn.Module, x: Sequence[Tensor], limit: Tensor) -> Found:
    """Proposals, then boxes and classes of a two-stage detector.

    Args:
        model: Checked by ``DetectorGraph``.
        x: Pyramid of one image.
        limit: Tensor[2], width and height of the image.
    """
    rois = _proposals(model.rpn_head, x, limit)
    rois = torch.cat([torch.zeros_like(rois[:, :1]), rois], dim=1)  # (R, 5)
    head, cfg = model.roi_head.bbox_head, model.test_cfg.rcnn
    logits, deltas = head(pool(model.roi_head.bbox_roi_extractor, x, rois))
    scores = logits.softmax(-1)[:, :-1]  # (R, K)
    boxes = _clip(head.bbox_coder.decode(rois[:, 1:], deltas).unflatten(1, (-1, 4)), limit)
    boxes = boxes.expand(-1, head.num_classes, 4).transpose(0, 1)  # (K, R, 4)
    kept = class_nms(boxes, scores.t()[:, None], float(cfg.nms.iou_threshold), float(cfg.score_thr))
    labels, index = kept[:, 0], kept[:, 2]
    best, order = _best(scores[index, labels], cfg.max_per_img)
    labels, index = labels[order], index[order]
    return Found(boxes[labels, index], best, labels, index)


def _proposals(head: RPNHead, x: Sequence[Tensor], limit: Tensor) -> Tensor:
    """Boxes Tensor[R, 4] of the first stage, best first."""
    cfg = head.test_cfg
    class_maps, delta_maps = head(x)
    sizes = [level.shape[-2:] for level in class_maps]
    priors = head.prior_generator.grid_priors(sizes, device=limit.device)
    boxes, scores = [], []
    for logits, deltas, prior in zip(class_maps, delta_maps, priors):
        logits = logits[0].permute(1, 2, 0).reshape(-1, head.cls_out_channels)
        probs = logits.sigmoid()[:, 0] if head.use_sigmoid_cls else logits.softmax(-1)[:, 0]
        best, index = _best(probs, cfg.get('nms_pre', -1))
        deltas = deltas[0].permute(1, 2, 0).reshape(-1, 4)[index]
        box = _clip(head.bbox_coder.decode(prior[index], deltas), limit)
        sides = box[:, 2:] - box[:, :2]
        fits = (sides > cfg.get('min_bbox_size', -1)).all(1)
        boxes.append(box)
        scores.append(torch.where(fits, best, 0))
    # Every level suppresses its own.
    rows = [
        torch.cat([s if i == level else torch.zeros_like(s) for i, s in enumerate(scores)])
        for level in range(len(scores))
    ]
    box, score = torch.cat(boxes), torch.cat(scores)
    index = class_nms(box[None], torch.stack(rows)[None], float(cfg.nms.iou_threshold), 0.0)[:, 2]
    return box[index[_best(score[index], cfg.max_per_img)[1]]]


def point_detections(
    head: FCOSHeadBase, x: Sequence[Tensor], limit: Tensor
) -> tuple[Found, dict[str, Tensor], list[Tensor]]:
    """Boxes and classes of a head on points.

    Returns:
        The detections, their other values by name (``coeffs``, or ``embeds`` and ``margins``), and
        the maps that the masks come from; none for those of the pyramid itself.
    """
    outputs, cfg = head(x), head.test_cfg
    classes, ltrb, centers = outputs[:3]
    grid, offset = head.grid(classes), getattr(head, 'pixel_offset', cfg.get('clip_offset', 0))
    points = decode_ltrb(grid.points, flatten_levels(ltrb)[0].float() * grid.strides[:, None])
    boxes = _clip(points, limit - offset)
    nms = {'type': 'greedy', **DEFAULT_NMS, **(cfg.get('nms') or {})}
    _require_nms(nms, ('greedy', 'nms', 'fast'))
    if cfg.get('nms_in_original', False) and nms.get('offset', 0):
        raise ValueError(
            'nms_in_original=True with an offset depends on the size of the original image: set '
            'nms_in_original=False'
        )
    scores = _candidate_scores(classes, centers, cfg, nms, hasattr(outputs, 'extras'))  # (P, K)
    compared = boxes if cfg.get('clip_before_nms', True) else points
    if nms['type'] == 'fast':
        index, labels, best = _fast_nms(compared, scores, nms)
    else:
        pixels = nms.get('offset', getattr(head, 'pixel_offset', 0))
        compared = compared + torch.tensor([0.0, 0, pixels, pixels])
        kept = class_nms(compared[None], scores.t()[None], float(nms['iou_threshold']), 0.0)
        index, labels = kept[:, 2], kept[:, 1]
        best = scores[index, labels]
    best, order = _best(best, cfg.get('max_per_img', 100))
    found = Found(boxes[index[order]], best, labels[order], index[order])
    if hasattr(outputs, 'extras'):
        coeffs = flatten_levels(outputs.extras['coeffs'])[0][found.index]
        coeffs = coeffs.unflatten(1, (head.num_cells**2, head.num_bases))
        return found, {'coeffs': coeffs}, outputs.features
    fields = {name: flatten_levels(getattr(outputs, name))[0] for name in ('embeds', 'margins')}
    sides = found.boxes[:, 2:] - found.boxes[:, :2] + offset
    kept = (sides > 0).all(1).nonzero()[:, 0]
    found = Found(*(part[kept] for part in found))
    return found, {name: values[found.index] for name, values in fields.items()}, []


def _candidate_scores(
    class_maps: Sequence[Tensor],
    center_maps: Sequence[Tensor],
    cfg: Mapping[str, Any],
    nms: Mapping[str, Any],
    by_points: bool,
) -> Tensor:
    """Scores Tensor[P, K] of ``select_detections``; 0 for pairs that are no candidates."""
    fast = nms['type'] == 'fast'
    points = fast or cfg.get('candidates', 'points' if by_points else 'pairs') == 'points'
    limit, levels = cfg.get('nms_pre', 1000), []
    for logits, centers in zip(class_maps, center_maps):
        probs = flatten_levels([logits])[0].float().sigmoid()
        factors = flatten_levels([centers])[0].float().sigmoid()  # (P, 1)
        product = probs * factors
        by_product = fast or cfg.get('filter_by_product', False)
        passes = (product if by_product else probs) > cfg.get('score_thr', 0.05)
        ranked = product if points else torch.where(passes, product, 0)
        ranked = ranked.amax(1, keepdim=True) if points else ranked
        levels.append(torch.where(passes & (ranked >= _least(ranked, limit)), product, 0))
    scores = torch.cat(levels)
    scores = torch.where(scores >= _least(scores, cfg.get('max_candidates')), scores, 0)
    root = cfg.get('sqrt_score', cfg.get('score_sqrt', False))
    return scores.sqrt() if root else scores


def _fast_nms(
    boxes: Tensor, scores: Tensor, nms: Mapping[str, Any]
) -> tuple[Tensor, Tensor, Tensor]:
    """Index, label and score, Tensor[n] each, of what ``fcos.nms.fast_nms`` keeps."""
    best, index = scores.t().topk(_count(scores.t()[0], nms.get('top_k', 200)))  # (K, T) each
    worse = overlaps_more(boxes[index], nms['iou_threshold']).triu(diagonal=1).any(dim=1)
    labels, rank = (~worse & (best > 0)).nonzero(as_tuple=True)
    return index[labels, rank], labels, best[labels, rank]


def _clip(boxes: Tensor, limit: Tensor) -> Tensor:
    """Keep boxes Tensor[..., 4] inside (0, 0, width, height)."""
    return boxes.clamp(min=0).minimum(limit.repeat(2))


def _count(values: Tensor, limit: int | None) -> Tensor | int:
    """The smaller of ``limit`` and the number of values, which a graph computes."""
    count = torch.as_tensor(values.shape[0])
    return count if limit is None or limit < 0 else count.clamp(max=limit)


def _best(scores: Tensor, limit: int | None) -> tuple[Tensor, Tensor]:
    """The best of scores Tensor[N] and their places."""
    return scores.topk(_count(scores, limit))


def _least(values: Tensor, limit: int | None) -> Tensor | float:
    """The smallest of the ``limit`` best values."""
    if limit is None or limit < 0:
        return 0.0
    flat = values.flatten()
    return flat.topk(_count(flat, limit)).values[-1]
