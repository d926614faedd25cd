"""SipMask's detection head: boxes, classes, centerness and the mask coefficients of every point.

Paper:    SipMask, https://arxiv.org/abs/2007.14772.
Origin:   JialeCao001/SipMask, ``SipMask-mmdetection`` and ``SipMask-benchmark``; written anew.
Changes:  one head with options covers both generations; images without objects and maps smaller
          than a kernel are ordinary input; nothing is kept on the module between calls.

Shapes:   B images, P points of all levels (finest first), K classes, C tower channels, S basis
          maps, k x k cells per box.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from mmdet.registry import MODELS
from mmdet.utils import ConfigType, InstanceList, MultiConfig, OptConfigType
from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmrefine.fcos import (
    FCOSHeadBase,
    PointGrid,
    PointTargets,
    clip_boxes,
    decode_ltrb,
    flatten_levels,
    select_detections,
)
from mmrefine.fcos.candidates import least_sides
from mmrefine.fcos.head import GROUP_NORM
from mmrefine.layers import loads_weights
from mmrefine.masks import output_size

from .align import FeatureAlign
from .postprocess import image_scale


class SipMaskOutputs(NamedTuple):
    """What the head predicts, as one list entry per pyramid level, finest first."""

    classes: list[Tensor]  # Tensor[B, K, H, W], logits
    ltrb: list[Tensor]  # Tensor[B, 4, H, W], float32 distances in stride units
    centers: list[Tensor]  # Tensor[B, 1, H, W], centerness logits
    coeffs: list[Tensor]  # Tensor[B, k * k * S, H, W], cell after cell
    # Tensor[B, C, H, W], box-tower features of the levels that feed the basis
    features: list[Tensor]


@MODELS.register_module()
class SipMaskBBoxHead(FCOSHeadBase):
    """FCOS with feature alignment and mask coefficients.

    Args:
        num_classes: Number of classes K without background.
        num_bases: Basis maps S; must match the mask head.
        num_cells: Cells per box side k; each cell has its own S coefficients.
        num_feature_levels: Pyramid levels whose box-tower features go to the mask head.
        stacked_convs: Convolutions of the box tower; the class tower has one less, since the
            alignment is its last.
        align_bias: Bias after the alignment's convolution (benchmark generation).
        norm_cfg: Norm of the towers and of the alignment, None for neither.
        **kwargs: See ``FCOSHeadBase``.

    Prediction settings (``test_cfg``): ``nms_pre`` best points (or pairs) per level, ``score_thr``
    on the class score, ``max_candidates`` (point, class) pairs before suppression (default: all),
    ``max_per_img``, ``min_bbox_size`` as MMDetection's heads have it, ``nms`` see
    ``fcos.nms.suppress``. Parity: for released weights
    ``candidates='pairs'`` ranks (point, class) pairs and ``score_sqrt`` takes the root of the score
    (benchmark), ``clip_offset=1`` clips to the last pixel index, ``nms_in_original`` suppresses in
    original-image pixels; ``scale`` and ``scale_limits`` see ``postprocess``.
    """

    def __init__(
        self,
        num_classes: int,
        num_bases: int = 32,
        num_cells: int = 2,
        num_feature_levels: int = 3,
        stacked_convs: int = 4,
        align_bias: bool = False,
        norm_cfg: OptConfigType = GROUP_NORM,
        init_cfg: MultiConfig | None = None,
        **kwargs: Any,
    ) -> None:
        if stacked_convs < 1 or num_cells < 1:
            raise ValueError(
                'stacked_convs and num_cells must be at least 1, '
                f'got {stacked_convs} and {num_cells}'
            )
        small = {'type': 'Normal', 'name': 'conv_coeff', 'std': 0.001}
        super().__init__(
            num_classes,
            num_cls_convs=stacked_convs - 1,
            num_reg_convs=stacked_convs,
            norm_cfg=norm_cfg,
            init_cfg=init_cfg or self.default_init(small),
            **kwargs,
        )
        self.num_bases = num_bases
        self.num_cells = num_cells
        self.num_feature_levels = num_feature_levels
        self.feat_align = FeatureAlign(self.feat_channels, align_bias, norm_cfg)
        self.conv_coeff = nn.Conv2d(self.feat_channels, num_bases * num_cells**2, 3, padding=1)

    def init_weights(self) -> None:
        """As the base class, which resets every ``conv_offset``, even one that was loaded."""
        if loads_weights(self.init_cfg):
            return BaseModule.init_weights(self)
        super().init_weights()

    def forward(self, x: Sequence[Tensor]) -> SipMaskOutputs:
        """Pyramid maps Tensor[B, C_in, H, W], finest first -> predictions of every level."""
        levels = [self.forward_level(feature, level) for level, feature in enumerate(x)]
        classes, ltrb, centers, coeffs, features = map(list, zip(*levels))
        return SipMaskOutputs(classes, ltrb, centers, coeffs, features[: self.num_feature_levels])

    def forward_level(self, x: Tensor, level: int) -> tuple[Tensor, ...]:
        """Tensor[B, C_in, H, W] -> the five maps of ``SipMaskOutputs`` of the level."""
        reg_feat = self.reg_convs(x)  # (B, C, H, W)
        ltrb = self.predict_ltrb(reg_feat, level)  # (B, 4, H, W), stride units
        # Boxes come first: they steer where the class features are sampled.
        aligned = self.feat_align(self.cls_convs(x), ltrb)  # (B, C, H, W)
        coeffs = self.conv_coeff(aligned)
        return self.conv_cls(aligned), ltrb, self.conv_centerness(reg_feat), coeffs, reg_feat

    def loss_by_feat(
        self, outputs: SipMaskOutputs, gt_instances: InstanceList
    ) -> tuple[dict[str, Tensor], InstanceList]:
        """Detection losses ``loss_cls``, ``loss_bbox`` and ``loss_centerness`` of the result of
        ``forward``, and per image the positive points for the mask loss, see ``positives``."""
        grid = self.grid(outputs.classes)
        points = self.flatten_outputs(outputs.classes, outputs.ltrb, outputs.centers)
        targets = self.assign(grid, gt_instances)
        losses = self.detection_loss(points, grid, targets, gt_instances)
        return losses, self.positives(outputs, grid, targets, gt_instances)

    def positives(
        self,
        outputs: SipMaskOutputs,
        grid: PointGrid,
        targets: PointTargets,
        gt_instances: InstanceList,
    ) -> InstanceList:
        """The positive points of every image, in grid order.

        Returns:
            Per image: ``bboxes`` Tensor[n, 4] decoded, in pixels, not clipped, without gradient;
            ``scores`` Tensor[n] of the assigned class, without gradient; ``labels`` and ``gt_inds``
            LongTensor[n]; ``coeffs`` Tensor[n, k * k, S].
        """
        logits, ltrb = flatten_levels(outputs.classes), flatten_levels(outputs.ltrb).detach()
        coeffs = self._flat_coeffs(outputs)
        found = []
        for image, gt in enumerate(gt_instances):
            index = targets.gt_index[image]  # (P), -1 for background
            at = (index >= 0).nonzero()[:, 0]  # (n)
            labels = gt.labels[index[at]]
            boxes = decode_ltrb(grid.points[at], ltrb[image, at] * grid.strides[at, None])
            found.append(
                InstanceData(
                    bboxes=boxes,
                    scores=logits[image, at, labels].detach().float().sigmoid(),
                    labels=labels,
                    gt_inds=index[at],
                    coeffs=coeffs[image, at],
                )
            )
        return found

    def predict_by_feat(
        self, outputs: SipMaskOutputs, metas: list[dict], cfg: ConfigType | None = None
    ) -> InstanceList:
        """Select the detections of every image.

        Args:
            outputs: Result of ``forward``.
            metas: Per image ``img_shape``, ``ori_shape`` and ``scale_factor``.
            cfg: Prediction settings; defaults to ``test_cfg``.

        Returns:
            Per image, best score first: ``bboxes`` Tensor[N, 4] in pixels of the network input,
            ``scores`` Tensor[N], ``labels`` LongTensor[N], ``coeffs`` Tensor[N, k * k, S].
        """
        cfg = (self.test_cfg or {}) if cfg is None else cfg
        defaults = dict(candidates='points', sqrt_score=cfg.get('score_sqrt', False))
        grid = self.grid(outputs.classes)
        points = self.flatten_outputs(outputs.classes, outputs.ltrb, outputs.centers)
        coeffs = self._flat_coeffs(outputs)
        results = []
        for image, meta in enumerate(metas):
            boxes = decode_ltrb(grid.points, points.ltrb_stride[image] * grid.strides[:, None])
            size = output_size(meta, rescale=False)
            boxes = clip_boxes(boxes, size, cfg.get('clip_offset', 0))  # (P, 4), network input
            compared, least = boxes, None
            in_original = cfg.get('nms_in_original', False)
            if in_original or 'min_bbox_size' in cfg:
                scale = image_scale(meta, cfg)
                # Legacy pixel counting makes overlaps depend on the scale they are computed at.
                compared = boxes / boxes.new_tensor(scale).repeat(2) if in_original else boxes
                least = least_sides(cfg, (1.0, 1.0) if in_original else scale)
            scores, at, labels = select_detections(
                compared,
                points.class_logits[image].sigmoid(),
                points.center_logits[image].sigmoid(),
                grid.counts,
                {**defaults, **cfg},
                least,
            )
            results.append(
                InstanceData(
                    bboxes=boxes[at], scores=scores, labels=labels, coeffs=coeffs[image, at]
                )
            )
        return results

    def _flat_coeffs(self, outputs: SipMaskOutputs) -> Tensor:
        """Tensor[B, P, k * k, S]."""
        return flatten_levels(outputs.coeffs).unflatten(2, (self.num_cells**2, self.num_bases))
