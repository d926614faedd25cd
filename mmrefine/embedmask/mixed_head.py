"""The dense head of another detector as the box head of EmbedMask.

Shapes: B images, P points of all levels (finest first), G objects of one image, K classes, C
        channels, D embedding dimensions, M margin dimensions.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmdet.models.dense_heads import (
    ATSSHead,
    DDODHead,
    FCOSHead,
    GFLHead,
    RetinaHead,
    RTMDetInsHead,
)
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.registry import MODELS
from mmdet.structures.bbox import get_box_tensor
from mmdet.utils import ConfigType, InstanceList, OptConfigType
from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmrefine.fcos import PointGrid, assign_points, flatten_levels, make_grid, points_on_masks
from mmrefine.fcos.head import RANGES
from mmrefine.layers import require_labels

from .box_head import ProposalLayers
from .postprocess import PointPredictions, detections_with_embeds
from .targets import Proposals, match_proposals

# Others give their boxes in other units, or other maps in the place of centerness.
SUPPORTED = (ATSSHead, DDODHead, FCOSHead, GFLHead, RetinaHead)


class EmbeddedOutputs(NamedTuple):
    """What the head predicts, with one list entry per pyramid level, finest first."""

    # outputs of the wrapped head: lists of class, box and perhaps centerness maps
    head: tuple[list[Tensor], ...]
    embeds: list[Tensor]  # Tensor[B, D, H, W]
    margins: list[Tensor]  # Tensor[B, M, H, W], positive


@MODELS.register_module()
class EmbeddedHead(ProposalLayers, BaseModule):
    """Let the box head of another detector carry proposals.

    The head keeps its layers, its assignment, its losses and its box coder. Embeddings and margins
    come from its regression tower; FCOS assignment on its points decides which proposals learn a
    mask.

    Works with heads that have one prior per cell, a regression tower ``reg_convs`` shared by the
    levels, and sigmoid classes: ATSS, DDOD, GFL, FCOS, RetinaNet with one anchor, and what derives
    from them.

    Args:
        head: Config of the dense head, which gets ``train_cfg`` and ``test_cfg``.
        proposal, prior_distance, sample_in_mask: As in ``EmbedMaskBBoxHead``.
        center_radius: Half side of the central square of points that learn masks, in strides.
        regress_ranges: Smallest and largest box side distance of every level, in pixels.
        test_cfg: Also see ``detections_with_embeds``.
        init_cfg: Defaults to N(0, 0.01) for the branch, margin prior by ``prior_distance``.
    """

    pixel_offset = 0

    def __init__(
        self,
        head: ConfigType,
        proposal: OptConfigType = None,
        prior_distance: float = 2.0,
        sample_in_mask: bool = True,
        center_radius: float | None = 1.5,
        regress_ranges: Sequence[tuple[float, float]] = RANGES,
        train_cfg: OptConfigType = None,
        test_cfg: OptConfigType = None,
        init_cfg: OptConfigType = None,
    ) -> None:
        super().__init__()
        self.head: BaseDenseHead = MODELS.build(
            {**head, 'train_cfg': train_cfg, 'test_cfg': test_cfg}
        )
        tower = getattr(self.head, 'reg_convs', None)
        if (
            not isinstance(tower, nn.ModuleList)
            or not len(tower)
            or (isinstance(tower[0], nn.ModuleList))
        ):
            raise ValueError(
                f'{type(self.head).__name__} has no regression tower "reg_convs" shared by its '
                'levels; EmbeddedHead takes embeddings from it'
            )
        if not isinstance(self.head, SUPPORTED) or isinstance(self.head, RTMDetInsHead):
            names = ', '.join(kind.__name__ for kind in SUPPORTED)
            raise ValueError(
                f'EmbeddedHead cannot read the boxes of {type(self.head).__name__}: take one of '
                f'{names}, or a class derived from one'
            )
        if not self.head.use_sigmoid_cls:
            raise ValueError(
                f'the classes of {type(self.head).__name__} are a softmax, but EmbeddedHead takes '
                'sigmoids: set use_sigmoid=True in its loss_cls'
            )
        # A hook that stays, since compilers cannot trace the registration of one.
        self._features: list[Tensor] | None = None
        tower[-1].register_forward_hook(self._collect)
        if (proposal or {}).get('margin_source') == 'box':
            raise ValueError(
                "margins come from the regression tower here: set margin_source='feature'"
            )
        if self.head.num_base_priors != 1:
            raise ValueError(
                f'{type(self.head).__name__} has {self.head.num_base_priors} priors per cell, but '
                'a cell has one embedding: set one scale and one ratio in its anchor_generator'
            )
        self.strides = tuple(
            s[0] if isinstance(s, (tuple, list)) else s for s in self.head.prior_generator.strides
        )
        if len(regress_ranges) != len(self.strides):
            raise ValueError(
                f'{len(self.strides)} levels but {len(regress_ranges)} regress_ranges: give one '
                'range per level'
            )
        self.in_channels = self.head.in_channels
        self.sample_in_mask, self.center_radius = sample_in_mask, center_radius
        self.regress_ranges, self.test_cfg = tuple(regress_ranges), test_cfg
        self.build_proposal_layers(self.head.feat_channels, self.strides, **(proposal or {}))
        margins = self.margin_init(prior_distance)
        named = {each['name'] for each in margins}
        plain = [
            dict(type='Normal', name=name, std=0.01)
            for name, layer in self.named_children()
            if isinstance(layer, nn.Conv2d) and name not in named
        ]
        self.init_cfg = init_cfg or dict(type='Normal', layer=[], override=[*plain, *margins])

    def _collect(self, module: nn.Module, inputs: tuple, output: Tensor) -> None:
        """Keep what the tower gives, level by level, while ``forward`` runs."""
        if self._features is not None:
            self._features.append(output)

    def forward(self, x: Sequence[Tensor]) -> EmbeddedOutputs:
        """Pyramid maps Tensor[B, C, H, W], finest first -> predictions of every level."""
        self._features = features = []
        outputs = self.head(x)
        self._features = None
        embeds, margins = [], []
        for level, feature in enumerate(features):
            # No distances: margins of this head never come from the box.
            ltrb = feature.new_zeros(len(feature), 4, *feature.shape[2:])
            embed, margin = self.embed_level(feature, ltrb, level)
            embeds.append(embed)
            margins.append(margin)
        return EmbeddedOutputs(outputs, embeds, margins)

    def loss_by_feat(
        self, outputs: EmbeddedOutputs, gt_instances: InstanceList, metas: list[dict]
    ) -> tuple[dict[str, Tensor], Proposals]:
        """Losses of the head, and the proposals that the mask loss chooses from.

        Result of ``forward`` and of ``objects_on_canvas``; the head's assigner needs ``metas``.
        """
        require_labels(gt_instances, self.head.num_classes)
        gts = [InstanceData(bboxes=gt.bboxes, labels=gt.labels) for gt in gt_instances]
        losses = self.head.loss_by_feat(*outputs.head, gts, metas)
        grid = self._grid(outputs)
        gt_index = torch.stack([self._assign(grid, gt) for gt in gt_instances])  # (B, P)
        proposals = match_proposals(
            flatten_levels(outputs.embeds),
            flatten_levels(outputs.margins),
            self._decode([level.detach() for level in outputs.head[1]]),
            gt_index,
            gt_instances,
        )
        return losses, proposals

    def predict_by_feat(
        self, outputs: EmbeddedOutputs, metas: list[dict], cfg: ConfigType | None = None
    ) -> InstanceList:
        """Detections of every image, see ``detections_with_embeds``; ``cfg`` defaults to
        ``test_cfg``."""
        cfg = (self.test_cfg or {}) if cfg is None else cfg
        scores = flatten_levels(outputs.head[0]).float().sigmoid()  # (B, P, K)
        factors = torch.ones_like(scores[..., 0])  # (B, P)
        if len(outputs.head) > 2:
            factors = flatten_levels(outputs.head[2]).float().sigmoid().squeeze(-1)
        predictions = PointPredictions(
            scores,
            factors,
            self._decode(outputs.head[1]),
            flatten_levels(outputs.embeds),
            flatten_levels(outputs.margins),
        )
        return detections_with_embeds(predictions, self._grid(outputs).counts, metas, cfg)

    def _grid(self, outputs: EmbeddedOutputs) -> PointGrid:
        sizes = [tuple(level.shape[-2:]) for level in outputs.embeds]
        return make_grid(sizes, self.strides, device=outputs.embeds[0].device)

    def _assign(self, grid: PointGrid, gt: InstanceData) -> Tensor:
        """LongTensor[P], the object whose mask every point learns, -1 for none."""
        allowed = points_on_masks(grid.points, gt.masks) if self.sample_in_mask else None
        ranges = grid.points.new_tensor(self.regress_ranges)
        targets = assign_points(grid, gt.bboxes, ranges, self.center_radius, allowed=allowed)
        return targets.gt_index

    def _decode(self, box_maps: Sequence[Tensor]) -> Tensor:
        """Predictions of all levels -> boxes Tensor[B, P, 4] in pixels."""
        sizes = [level.shape[-2:] for level in box_maps]
        priors = self.head.prior_generator.grid_priors(sizes, device=box_maps[0].device)
        # MMDetection's FCOS gives pixels to predict with, and units of the stride to learn from.
        in_strides = self.training and getattr(self.head, 'norm_on_bbox', False)
        boxes = []
        for level, prior, stride in zip(box_maps, priors, self.strides):
            flat = level.float().flatten(2).transpose(1, 2)  # (B, P of the level, 4 or 4 bins)
            flat = flat * stride if in_strides else flat
            prior = get_box_tensor(prior)
            if hasattr(self.head, 'integral'):
                # GFL predicts a distribution over each distance, in units of the stride, and
                # decodes from the centres of its anchors.
                flat = self.head.integral(flat.flatten(0, 1)).view(*flat.shape[:2], 4) * stride
                prior = (prior[:, :2] + prior[:, 2:]) / 2 if prior.shape[1] == 4 else prior
            decode = self.head.bbox_coder.decode
            boxes.append(torch.stack([get_box_tensor(decode(prior, image)) for image in flat]))
        return torch.cat(boxes, dim=1)
