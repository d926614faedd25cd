"""FCOS head whose proposals carry an embedding and a margin.

Papers:  EmbedMask, https://arxiv.org/abs/1912.01954 (v1, v2), sections 3.2-3.3; IJCAI 2021, doi
         10.24963/ijcai.2021/175 (v3).
Origin:  yinghdb/EmbedMask 3b4d9fb (v1), 28427b6 (v2), e9465cb (v3), MIT; yinghdb/AdelaiDet 94a9b7c
         (adet), 2-clause BSD for non-commercial use. No code was taken.
Changes: nothing loops over objects; images without objects, or with crowds only, are ordinary
         images.

Shapes:  B images, P points of all levels (finest first), K classes, C channels, D embedding
         dimensions, M margin dimensions (1 or D).
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from mmcv.cnn import Scale
from mmdet.registry import MODELS
from mmdet.utils import ConfigType, InstanceList, OptConfigType
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmrefine.fcos import (
    FCOSHeadBase,
    PointGrid,
    PointTargets,
    assign_points,
    decode_ltrb,
    flatten_levels,
    points_on_masks,
)
from mmrefine.layers import as_weights, without_autocast

from .kernel import add_coordinates
from .postprocess import PointPredictions, detections_with_embeds
from .targets import Proposals, mask_centroids, match_proposals

# exp of it is still a sound weight, and products with squared distances stay far from overflow
MAX_LOG_MARGIN = 10.0


def log_margin_prior(distance: float) -> float:
    """Log margin that puts probability 1/2 at this embedding distance: ln(ln 2 / distance^2)."""
    return math.log(math.log(2) / distance**2)


class ProposalLayers(nn.Module):
    """Layers of the proposal branch, to be mixed into a head.

    They predict the embedding and the margin of every proposal from the feature its box comes
    from, and carry the names of the published tables, directly on the head.
    """

    def build_proposal_layers(
        self,
        channels: int,
        strides: Sequence[int],
        embed_dim: int = 16,
        coord_embed: bool = True,
        learn_position_scale: bool = True,
        margin_source: str = 'feature',
        margin_dims: str = 'each',
        reduce_channels: int | None = None,
        margin_unit: float = 32.0,
        box_unit: float = 800.0,
        fixed_margin: float | None = None,
    ) -> None:
        """Create the layers.

        Args:
            channels: Channels of the regression feature.
            strides: Pixels per cell of every level.
            embed_dim: D.
            coord_embed: The first two dimensions are the position in the image / 100 plus a
                correction.
            learn_position_scale: Multiply that position by one learned number, shared with the
                pixels.
            margin_source: ``'feature'`` predicts margins from the regression feature, ``'box'``
                (v1) from the four predicted distances, without gradient to them.
            margin_dims: ``'each'`` dimension has a margin, or ``'one'`` for all.
            reduce_channels: Width of a 1x1 convolution before embedding and margin (AdelaiDet);
                None: none.
            margin_unit: What the regression feature is divided by before it gives a margin.
            box_unit: Pixels that make 1 when margins come from the box.
            fixed_margin: Embedding distance of probability 1/2, for margins that are not learned;
                None: learned.
        """
        if margin_source not in ('feature', 'box') or margin_dims not in ('each', 'one'):
            raise ValueError(
                f"margin_source must be 'feature' or 'box', margin_dims 'each' or 'one'; "
                f'got {margin_source!r} and {margin_dims!r}'
            )
        if embed_dim < (3 if coord_embed else 1):
            raise ValueError(
                f'embed_dim {embed_dim} is too small: coordinates take two, one must remain'
            )
        if margin_source == 'box' and margin_dims == 'each':
            raise ValueError("margins from the box are one number: set margin_dims='one'")
        if margin_dims == 'each' and not coord_embed:
            raise ValueError(
                "margins of 'each' dimension treat two as coordinates: set coord_embed=True"
            )
        self.embed_dim, self.coord_embed, self.margin_source = embed_dim, coord_embed, margin_source
        self.margin_dims, self.fixed_margin = margin_dims, fixed_margin
        self.margin_unit, self.box_unit = margin_unit, box_unit
        self.position_scale = Scale(1.0) if coord_embed and learn_position_scale else None
        width = reduce_channels or channels
        self.conv_embed_reduce, self.conv_margin_reduce = (
            nn.Conv2d(channels, width, 1) if reduce_channels else nn.Identity() for _ in range(2)
        )
        if coord_embed:
            self.conv_embed_spatial = nn.Conv2d(width, 2, 3, padding=1)
            self.conv_embed_free = nn.Conv2d(width, embed_dim - 2, 3, padding=1)
        else:
            self.conv_embed = nn.Conv2d(width, embed_dim, 3, padding=1)
        if margin_dims == 'each':
            self.margin_scales = nn.ModuleList([Scale(1.0) for _ in strides])
        if margin_source == 'box':
            self.conv_margin = nn.Conv2d(4, 1, 1)
        elif margin_dims == 'each' and reduce_channels:
            self.conv_margin_spatial = nn.Conv2d(width, 2, 3, padding=1)
            self.conv_margin_free = nn.Conv2d(width, embed_dim - 2, 3, padding=1)
        else:
            dims = embed_dim if margin_dims == 'each' else 1
            self.conv_margin = nn.Conv2d(width, dims, 3, padding=1)

    def margin_init(self, distance: float) -> list[dict]:
        """Initialisation overrides of the margin layers, see ``log_margin_prior``."""
        names = [name for name, _ in self.named_children() if name.startswith('conv_margin')]
        layers = [name for name in names if name != 'conv_margin_reduce']
        bias = log_margin_prior(distance)
        return [dict(type='Normal', name=name, std=0.01, bias=bias) for name in layers]

    def position(self) -> Tensor | float:
        """Factor of the coordinates, shared by proposals and pixels."""
        return 1.0 if self.position_scale is None else self.position_scale.scale

    def embed_level(
        self, feature: Tensor, ltrb_stride: Tensor, level: int
    ) -> tuple[Tensor, Tensor]:
        """Regression feature Tensor[B, C, H, W], distances Tensor[B, 4, H, W] in units of the
        stride -> embedding and margin maps, Tensor[B, D, H, W] and positive Tensor[B, M, H, W].

        Computed in the type of the weights also under autocast.
        """
        with without_autocast(feature.device):
            layer = self.conv_embed_free if self.coord_embed else self.conv_embed
            feature, ltrb_stride = (as_weights(x, layer) for x in (feature, ltrb_stride))
            return self._embed(feature, level), self._margin(feature, ltrb_stride, level)

    def _embed(self, feature: Tensor, level: int) -> Tensor:
        feature = self.conv_embed_reduce(feature)
        if not self.coord_embed:
            return self.conv_embed(feature)
        spatial = self.conv_embed_spatial(feature)  # (B, 2, H, W)
        spatial = add_coordinates(spatial, self.strides[level], self.position())
        return torch.cat((spatial, self.conv_embed_free(feature)), dim=1)  # (B, D, H, W)

    def _margin(self, feature: Tensor, ltrb_stride: Tensor, level: int) -> Tensor:
        if self.margin_source == 'box':
            sides = ltrb_stride.detach() * (self.strides[level] / self.box_unit)
            log_margin = self.conv_margin(sides)  # (B, 1, H, W)
        else:
            feature = self.conv_margin_reduce(feature / self.margin_unit)
            if hasattr(self, 'conv_margin'):
                log_margin = self.conv_margin(feature)  # (B, M, H, W)
                spatial, free = log_margin[:, :2], log_margin[:, 2:]
            else:
                spatial, free = self.conv_margin_spatial(feature), self.conv_margin_free(feature)
            if self.margin_dims == 'each':
                log_margin = torch.cat((self.margin_scales[level](spatial), free), dim=1)
        if self.fixed_margin is not None:
            # Distributed training demands a gradient of every parameter, if only 0.
            log_margin = 0 * log_margin + log_margin_prior(self.fixed_margin)
        return log_margin.clamp(max=MAX_LOG_MARGIN).exp()


class EmbedMaskOutputs(NamedTuple):
    """What the head predicts, as one list entry per pyramid level, finest first."""

    class_logits: list[Tensor]  # Tensor[B, K, H, W]
    ltrb_stride: list[Tensor]  # Tensor[B, 4, H, W], distances in units of the stride
    center_logits: list[Tensor]  # Tensor[B, 1, H, W]
    embeds: list[Tensor]  # Tensor[B, D, H, W]
    margins: list[Tensor]  # Tensor[B, M, H, W], positive


@MODELS.register_module()
class EmbedMaskBBoxHead(ProposalLayers, FCOSHeadBase):
    """Boxes, scores, embeddings and margins of all points.

    Args:
        num_classes: Classes without background.
        in_channels: Channels of the pyramid.
        proposal: Settings of the proposal branch, see ``ProposalLayers.build_proposal_layers``.
        prior_distance: Embedding distance at which a fresh margin gives probability 1/2.
        sample_in_mask: A point learns an object only if it lies on the object's mask (v1-v3). The
            author remarks that this costs box AP and gains mask AP.
        center: Middle of the central square of positive points: of the ``'box'``, or of the
            ``'mask'`` (adet), the mean of its pixel positions.
        inclusive_boxes: Parity: v1-v3 end boxes at their last pixel (x2 = x + w - 1): areas and
            overlaps count pixels, and one pixel is added to results. Ground truth must come that
            way, from the transform ``InclusiveBoxes``.
        init_cfg: Defaults to N(0, 0.01), class prior 0.01, margin prior by ``prior_distance``.
        kwargs: See ``FCOSHeadBase``; ``test_cfg`` see ``detections_with_embeds``.
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
        self.pixel_offset = int(inclusive_boxes)
        self.build_proposal_layers(self.feat_channels, self.strides, **(proposal or {}))
        self.init_cfg = init_cfg or self.default_init(*self.margin_init(prior_distance))

    def forward(self, x: Sequence[Tensor]) -> EmbedMaskOutputs:
        """Pyramid maps Tensor[B, C, H, W], finest first -> predictions of every level."""
        if len(x) != len(self.strides):
            raise ValueError(f'{len(x)} feature levels but {len(self.strides)} strides')
        levels = [self.forward_level(feature, level) for level, feature in enumerate(x)]
        return EmbedMaskOutputs(*map(list, zip(*levels)))

    def forward_level(self, x: Tensor, level: int) -> tuple[Tensor, ...]:
        """Tensor[B, C, H, W] -> the five maps of ``EmbedMaskOutputs`` of one level."""
        reg_feat = self.reg_convs(x)
        class_logits = self.conv_cls(self.cls_convs(x))
        ltrb = self.predict_ltrb(reg_feat, level)
        embed, margin = self.embed_level(reg_feat, ltrb, level)
        return class_logits, ltrb, self.conv_centerness(reg_feat), embed, margin

    def loss_by_feat(
        self, outputs: EmbedMaskOutputs, gt_instances: InstanceList, metas: list[dict] | None = None
    ) -> tuple[dict[str, Tensor], Proposals]:
        """Detection losses, and the proposals that the mask loss chooses from.

        Result of ``forward`` and of ``objects_on_canvas``; other box heads need ``metas``.
        """
        grid = self.grid(outputs.class_logits)
        points = self.flatten_outputs(*outputs[:3])
        targets = self.assign(grid, gt_instances)
        losses = self.detection_loss(points, grid, targets, gt_instances)
        proposals = match_proposals(
            flatten_levels(outputs.embeds),
            flatten_levels(outputs.margins),
            decode_ltrb(grid.points, points.ltrb(grid).detach()),  # (B, P, 4)
            targets.gt_index,
            gt_instances,
            self.pixel_offset,
        )
        return losses, proposals

    def assign_single(self, grid: PointGrid, gt: InstanceData, ranges: Tensor) -> PointTargets:
        """Targets of one image; conditions on masks come in here."""
        allowed = points_on_masks(grid.points, gt.masks) if self.sample_in_mask else None
        centers = mask_centroids(gt.masks) if self.center == 'mask' else None
        return assign_points(
            grid, gt.bboxes, ranges, self.center_radius, self.area_offset, centers, allowed
        )

    def predict_by_feat(
        self, outputs: EmbedMaskOutputs, metas: list[dict], cfg: ConfigType | None = None
    ) -> InstanceList:
        """Detections of every image, see ``detections_with_embeds``; ``cfg`` defaults to
        ``test_cfg``."""
        cfg = (self.test_cfg or {}) if cfg is None else cfg
        grid = self.grid(outputs.class_logits)
        points = self.flatten_outputs(*outputs[:3])
        predictions = PointPredictions(
            points.class_logits.sigmoid(),  # (B, P, K)
            points.center_logits.sigmoid(),  # (B, P)
            decode_ltrb(grid.points, points.ltrb(grid)),  # (B, P, 4)
            flatten_levels(outputs.embeds),
            flatten_levels(outputs.margins),
        )
        return detections_with_embeds(predictions, grid.counts, metas, cfg, self.pixel_offset)
