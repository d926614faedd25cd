"""From images to detections in operators that ONNX has: what goes before the masks of ``parts``.

Heads on points are traced as they predict. Of two-stage detectors the box layers, anchors and box
coders are the model's own; what MMDetection cuts to lists whose length depends on the values is
written here with ``class_nms``.

Shapes:   K classes, R RoIs, n detections.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmdet.models.dense_heads import RPNHead
from mmdet.models.roi_heads import CascadeRoIHead, StandardRoIHead
from mmdet.structures.bbox import bbox2roi
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmrefine.fcos import FCOSHeadBase, clip_boxes
from mmrefine.fcos.candidates import DEFAULT_NMS
from mmrefine.fcos.graph_nms import at_most, class_nms

from .parts import Part, RoIPart, part_of
from .pooling import check_extractor, pool


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
        maps = self.model.extract_feat(image)
        if isinstance(self.part, RoIPart):
            found = roi_detections(self.model, maps, size)
        else:
            found, maps = point_detections(self.model.bbox_head, maps, size)
        known = {'boxes': found.bboxes, 'rois': bbox2roi([found.bboxes]), **found}
        masks = self.part.masks(maps, [known[name] for name in self.part.object_names])
        masks = masks if isinstance(masks, tuple) else (masks,)
        return (found.bboxes, found.scores, found.labels, *masks)


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


def roi_detections(model: nn.Module, x: Sequence[Tensor], size: Tensor) -> InstanceData:
    """Proposals, then boxes and classes of a two-stage detector.

    Args:
        model: Checked by ``DetectorGraph``.
        x: Pyramid of one image.
        size: Tensor[2], height and width of the image.
    """
    rois = bbox2roi([_proposals(model.rpn_head, x, size)])  # (R, 5)
    head, cfg = model.roi_head.bbox_head, model.test_cfg.rcnn
    logits, deltas = head(pool(model.roi_head.bbox_roi_extractor, x, rois))
    custom = head.custom_cls_channels  # Seesaw's
    scores = head.loss_cls.get_activation(logits) if custom else logits.softmax(-1)
    scores = scores[:, :-1]  # (R, K)
    boxes = head.bbox_coder.decode(rois[:, 1:], deltas).unflatten(1, (-1, 4))
    boxes = clip_boxes(boxes, size.unbind())
    boxes = boxes.expand(-1, head.num_classes, 4).transpose(0, 1)  # (K, R, 4)
    kept = class_nms(boxes, scores.t()[:, None], float(cfg.nms.iou_threshold), float(cfg.score_thr))
    labels, index = kept[:, 0], kept[:, 2]
    best, order = _best(scores[index, labels], cfg.max_per_img)
    labels, index = labels[order], index[order]
    return InstanceData(bboxes=boxes[labels, index], scores=best, labels=labels)


def _proposals(head: RPNHead, x: Sequence[Tensor], size: Tensor) -> Tensor:
    """Boxes Tensor[R, 4] of the first stage, best first."""
    cfg = head.test_cfg
    class_maps, delta_maps = head(x)
    sizes = [level.shape[-2:] for level in class_maps]
    priors = head.prior_generator.grid_priors(sizes, device=size.device)
    boxes, scores = [], []
    for logits, deltas, prior in zip(class_maps, delta_maps, priors):
        logits = logits[0].permute(1, 2, 0).reshape(-1, head.cls_out_channels)
        probs = logits.sigmoid()[:, 0] if head.use_sigmoid_cls else logits.softmax(-1)[:, 0]
        best, index = _best(probs, cfg.get('nms_pre', -1))
        deltas = deltas[0].permute(1, 2, 0).reshape(-1, 4)[index]
        box = clip_boxes(head.bbox_coder.decode(prior[index], deltas), size.unbind())
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
    head: FCOSHeadBase, x: Sequence[Tensor], size: Tensor
) -> tuple[InstanceData, Sequence[Tensor]]:
    """Detections of a head on points as it predicts them, with the values that their masks need,
    and the maps that the masks come from."""
    cfg = dict(head.test_cfg or {})
    nms = cfg.get('nms', DEFAULT_NMS)
    _require_nms(nms and {'type': 'greedy', **nms}, ('greedy', 'nms', 'fast'))
    if cfg.get('nms_in_original', False) and nms.get('offset', 0):
        raise ValueError(
            'nms_in_original=True with an offset depends on the size of the original image: set '
            'nms_in_original=False'
        )
    if cfg.get('min_bbox_size', -1) > 0:
        raise ValueError(
            'min_bbox_size depends on the size of the original image: set it to 0 (boxes without '
            'area) or -1'
        )
    outputs = head(x)
    meta = dict(img_shape=size.unbind(), scale_factor=(1.0, 1.0))
    cfg |= dict(nms_in_original=False)
    return head.predict_by_feat(outputs, [meta], cfg)[0], getattr(outputs, 'features', x)


def _best(scores: Tensor, limit: int | None) -> tuple[Tensor, Tensor]:
    """The best of scores Tensor[N] and their places."""
    return scores.topk(at_most(scores, limit))
