"""FCOS head whose proposals carry an embedding and a margin.

Papers:  EmbedMask, https://arxiv.org/abs/1912.01954 (v1, v2); IJCAI 2021, doi
         10.24963/ijcai.2021/175 (v3).
Origin:  yinghdb/EmbedMask 3b4d9fb (v1), 28427b6 (v2), e9465cb (v3), MIT; yinghdb/AdelaiDet 94a9b7c
         (adet), 2-clause BSD for non-commercial use. No code was taken.
Changes: nothing loops over objects; images without objects, or with crowds only, are ordinary
         images.

Shapes:  B images, P points of all levels (finest first), G objects of one image, D embedding
         dimensions, M margin dimensions, C channels.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from mmdet.registry import MODELS
from mmdet.utils import InstanceList, OptConfigType
from mmengine.structures import InstanceData
from torch import Tensor

from mmrefine.fcos import (
    FCOSHeadBase,
    PointGrid,
    PointTargets,
    assign_points,
    decode_ltrb,
    flatten_levels,
    paired_iou,
    points_on_masks,
)

from .detections import PointPredictions, select_detections
from .proposal import ProposalLayers, Proposals
from .targets import mask_centroids


class HeadMaps(NamedTuple):
    """Outputs of the head, one entry per level, finest first.

    Attributes:
        class_logits: Tensor[B, num_classes, H, W].
        ltrb_stride: Tensor[B, 4, H, W], distances in units of the stride.
        center_logits: Tensor[B, 1, H, W].
        embeds: Tensor[B, D, H, W].
        margins: Tensor[B, M, H, W], positive.
    """

    class_logits: list[Tensor]
    ltrb_stride: list[Tensor]
    center_logits: list[Tensor]
    embeds: list[Tensor]
    margins: list[Tensor]


@MODELS.register_module()
class EmbedMaskBBoxHead(ProposalLayers, FCOSHeadBase):
    """Boxes, scores, embeddings and margins of all points.

    Args:
        num_classes: Classes without background.
        in_channels: Channels of the pyramid.
        proposal: Settings of the proposal branch, see ``ProposalLayers.build_proposal_layers``.
        prior_distance: Embedding distance at which a fresh margin gives probability 1/2.
        sample_in_mask: A point learns an object only if it lies on the object's mask (v1-v3). The
            author's
            remark: this costs box AP and gains mask AP.
        center: Middle of the central square of positive points: of the ``'box'``, or of the
            ``'mask'`` (adet), the mean of its pixel positions.
        inclusive_boxes: Parity: v1-v3 end boxes at their last pixel (x2 = x + w - 1): areas and
            overlaps count pixels, and one pixel is added to results. Ground truth must come that
            way, from the transform ``InclusiveBoxes``.
        init_cfg: Defaults to N(0, 0.01), class prior 0.01, margin prior by ``prior_distance``.
        kwargs: See ``FCOSHeadBase``.

    Raises:
        ValueError: For an unknown ``center``.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 256,
        proposal: OptConfigType = None,
        prior_distance: float = 2.0,
        sample_in_mask: bool = True,
        center: str = 'box',
        inclusive_boxes: bool = False,
        conv_bias: bool | str = True,
        init_cfg: OptConfigType = None,
        **kwargs: Any,
    ) -> None:
        if center not in ('box', 'mask'):
            raise ValueError(f"center must be 'box' or 'mask', got {center!r}")
        kwargs.setdefault('area_offset', float(inclusive_boxes))
        super().__init__(num_classes, in_channels, conv_bias=conv_bias, **kwargs)
        self.sample_in_mask = sample_in_mask
        self.center = center
        self.inclusive_boxes = inclusive_boxes
        self.build_proposal_layers(self.feat_channels, self.strides, **(proposal or {}))
        self.init_cfg = init_cfg or self.default_init(*self.proposal_init(prior_distance))

    @property
    def pixel_offset(self) -> int:
        """1 if boxes end at their last pixel, else 0."""
        return int(self.inclusive_boxes)

    def forward(self, x: Sequence[Tensor]) -> HeadMaps:
        """Pyramid, one Tensor[B, C, H, W] per level -> maps of all outputs."""
        if len(x) != len(self.strides):
            raise ValueError(f'{len(x)} feature levels but {len(self.strides)} strides')
        return HeadMaps(*map(list, zip(*(self._level(feature, i) for i, feature in enumerate(x)))))

    def _level(self, feature: Tensor, level: int) -> tuple[Tensor, ...]:
        reg_feat = self.reg_convs(feature)
        class_logits = self.conv_cls(self.cls_convs(feature))
        ltrb = self.predict_ltrb(reg_feat, level)
        embed, margin = self.embed_level(reg_feat, ltrb, level)
        return class_logits, ltrb, self.conv_centerness(reg_feat), embed, margin

    def loss_and_proposals(
        self, x: Sequence[Tensor], objects: InstanceList, metas: list[dict] | None = None
    ) -> tuple[dict[str, Tensor], Proposals]:
        """Detection losses, and the proposals that the mask loss chooses from.

        Args:
            x: Pyramid.
            objects: One per image: ``bboxes`` Tensor[G, 4] in pixels of the network input,
                ``labels`` LongTensor[G], ``masks`` BoolTensor[G, H, W] on the padded input.
            metas: Not needed here; other box heads need them.
        """
        maps = self(x)
        grid = self.grid(maps.class_logits)
        outputs = self.flatten_outputs(maps.class_logits, maps.ltrb_stride, maps.center_logits)
        targets = self.assign(grid, objects)
        losses = self.detection_loss(outputs, grid, targets, objects)
        boxes = decode_ltrb(grid.points, outputs.ltrb(grid).detach())
        proposals = Proposals(
            flatten_levels(maps.embeds),
            flatten_levels(maps.margins),
            targets.gt_index,
            self._overlaps(boxes, targets, objects),
        )
        return losses, proposals

    def export_boxes(self, boxes: Tensor, meta: dict, rescale: bool) -> Tensor:
        """Boxes of this head Tensor[N, 4] as exclusive ones, of the network or original image."""
        if rescale:
            boxes = boxes / boxes.new_tensor(tuple(meta['scale_factor'])[:2]).repeat(2)
        if self.inclusive_boxes:
            boxes = torch.cat((boxes[:, :2], boxes[:, 2:] + 1), dim=1)
        return boxes

    def assign_single(self, grid: PointGrid, gt: InstanceData, ranges: Tensor) -> PointTargets:
        """Targets of one image; conditions on masks come in here."""
        allowed = points_on_masks(grid.points, gt.masks) if self.sample_in_mask else None
        centers = mask_centroids(gt.masks) if self.center == 'mask' else None
        return assign_points(
            grid, gt.bboxes, ranges, self.center_radius, self.area_offset, centers, allowed
        )

    def _overlaps(self, boxes: Tensor, targets: PointTargets, objects: InstanceList) -> Tensor:
        """IoU of predicted boxes Tensor[B, P, 4] with the boxes of their objects: Tensor[B, P]."""
        learned = torch.stack(
            [
                torch.cat((gt.bboxes, gt.bboxes.new_zeros(1, 4)))[index]
                for gt, index in zip(objects, targets.gt_index)
            ]
        )
        return paired_iou(boxes, learned, self.pixel_offset)

    def predict_instances(self, x: Sequence[Tensor], metas: list[dict]) -> InstanceList:
        """Detections of a batch, see ``select_detections``; boxes in network pixels."""
        maps = self(x)
        grid = self.grid(maps.class_logits)
        outputs = self.flatten_outputs(maps.class_logits, maps.ltrb_stride, maps.center_logits)
        fields = PointPredictions(
            outputs.class_logits.float().sigmoid(),
            outputs.center_logits.float().sigmoid(),
            decode_ltrb(grid.points, outputs.ltrb(grid)),
            flatten_levels(maps.embeds),
            flatten_levels(maps.margins),
        )
        return [
            select_detections(
                PointPredictions(*image),
                grid.counts,
                meta['img_shape'][:2],
                self.test_cfg or {},
                self.pixel_offset,
            )
            for image, meta in zip(zip(*fields), metas)
        ]

    def loss_by_feat(self, *args: Any, **kwargs: Any) -> dict:
        """Not used: the losses need the masks, see ``loss_and_proposals``."""
        raise NotImplementedError('call loss_and_proposals; use the EmbedMask detector')
