"""Predict the embedding and the margin of every proposal from the feature its box comes from.

Paper: EmbedMask, https://arxiv.org/abs/1912.01954, sections 3.2-3.3.

Shapes: B images, P points of all levels, C channels, D embedding dimensions, M margin dimensions (1
        or D).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmcv.cnn import Scale
from torch import Tensor, nn

from mmrefine.fcos import make_grid

# exp of it is still a sound weight, and products with squared distances stay far from overflow
MAX_LOG_MARGIN = 10.0
COORDINATE_UNIT = 100.0
MARGIN_FEATURE_UNIT = 32.0


class Proposals(NamedTuple):
    """All proposals of a batch and the objects they may represent, in grid order.

    Attributes:
        embeds: Tensor[B, P, D].
        margins: Tensor[B, P, M].
        gt_index: LongTensor[B, P], object of the image, -1 for none.
        overlap: Tensor[B, P], IoU of the predicted box with that object's box; meaningless for -1.
    """

    embeds: Tensor
    margins: Tensor
    gt_index: Tensor
    overlap: Tensor


def log_margin_prior(distance: float) -> float:
    """Log margin that puts probability 1/2 at this embedding distance: ln(ln 2 / distance^2)."""
    return math.log(math.log(2) / distance**2)


def add_coordinates(spatial: Tensor, stride: int, position: Tensor | float) -> Tensor:
    """Add the scaled image position of every cell to a map Tensor[B, 2, H, W] of that stride."""
    height, width = spatial.shape[-2:]
    grid = make_grid([(height, width)], [stride], device=spatial.device)
    coordinates = grid.points.t().unflatten(1, (height, width))
    return spatial + position * coordinates / COORDINATE_UNIT


class ProposalLayers:
    """Layers of the proposal branch, to be mixed into a head (an ``nn.Module``).

    The layers carry the names of the published tables, directly on the head.
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
            box_unit: Pixels that make 1 when margins come from the box.
            fixed_margin: Embedding distance of probability 1/2, for margins that are not learned;
                None: learned.

        Raises:
            ValueError: For unknown or contradictory settings.
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
        self.margin_dims, self.box_unit, self.fixed_margin = margin_dims, box_unit, fixed_margin
        self.embed_strides = tuple(strides)
        self.position_scale = Scale(1.0) if coord_embed and learn_position_scale else None
        width = reduce_channels or channels
        self.conv_embed_reduce = nn.Conv2d(channels, width, 1) if reduce_channels else nn.Identity()
        self.conv_margin_reduce = (
            nn.Conv2d(channels, width, 1) if reduce_channels else nn.Identity()
        )
        if coord_embed:
            self.conv_embed_spatial = nn.Conv2d(width, 2, 3, padding=1)
            self.conv_embed_free = nn.Conv2d(width, embed_dim - 2, 3, padding=1)
        else:
            self.conv_embed = nn.Conv2d(width, embed_dim, 3, padding=1)
        self._build_margin(width, split=bool(reduce_channels))

    def _build_margin(self, width: int, split: bool) -> None:
        if self.margin_dims == 'each':
            self.margin_scales = nn.ModuleList([Scale(1.0) for _ in self.embed_strides])
        if self.margin_source == 'box':
            self.conv_margin = nn.Conv2d(4, 1, 1)
        elif split and self.margin_dims == 'each':
            self.conv_margin_spatial = nn.Conv2d(width, 2, 3, padding=1)
            self.conv_margin_free = nn.Conv2d(width, self.embed_dim - 2, 3, padding=1)
        else:
            dims = self.embed_dim if self.margin_dims == 'each' else 1
            self.conv_margin = nn.Conv2d(width, dims, 3, padding=1)

    def proposal_init(self, distance: float = 2.0) -> list[dict]:
        """Initialisation overrides of the margin layers, see ``log_margin_prior``."""
        names = [
            n
            for n in ('conv_margin', 'conv_margin_spatial', 'conv_margin_free')
            if hasattr(self, n)
        ]
        bias = log_margin_prior(distance)
        return [dict(type='Normal', name=name, std=0.01, bias=bias) for name in names]

    def position(self) -> Tensor | float:
        """Factor of the coordinates, shared by proposals and pixels."""
        return 1.0 if self.position_scale is None else self.position_scale.scale

    def embed_level(
        self, feature: Tensor, ltrb_stride: Tensor, level: int
    ) -> tuple[Tensor, Tensor]:
        """Embedding and margin maps of one level, in fp32 also under autocast.

        Args:
            feature: Tensor[B, C, H, W], regression feature.
            ltrb_stride: Tensor[B, 4, H, W], predicted distances in units of the stride.
            level: Index of the level.

        Returns:
            Tensor[B, D, H, W] and positive Tensor[B, M, H, W].
        """
        with torch.autocast(feature.device.type, enabled=False):
            feature = feature.float()
            return self._embed(feature, level), self._margin(feature, ltrb_stride.float(), level)

    def _embed(self, feature: Tensor, level: int) -> Tensor:
        feature = self.conv_embed_reduce(feature)
        if not self.coord_embed:
            return self.conv_embed(feature)
        spatial = add_coordinates(
            self.conv_embed_spatial(feature), self.embed_strides[level], self.position()
        )
        return torch.cat((spatial, self.conv_embed_free(feature)), dim=1)

    def _margin(self, feature: Tensor, ltrb_stride: Tensor, level: int) -> Tensor:
        if self.margin_source == 'box':
            sides = ltrb_stride.detach() * (self.embed_strides[level] / self.box_unit)
            log_margin = self.conv_margin(sides)
        else:
            feature = self.conv_margin_reduce(feature / MARGIN_FEATURE_UNIT)
            if self.margin_dims == 'one':
                log_margin = self.conv_margin(feature)
            else:
                scale = self.margin_scales[level]
                spatial, free = self._split_margin(feature)
                log_margin = torch.cat((scale(spatial), free), dim=1)
        if self.fixed_margin is not None:
            log_margin = torch.full_like(log_margin, log_margin_prior(self.fixed_margin))
        return log_margin.clamp(max=MAX_LOG_MARGIN).exp()

    def _split_margin(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        if hasattr(self, 'conv_margin'):
            margin = self.conv_margin(feature)
            return margin[:, :2], margin[:, 2:]
        return self.conv_margin_spatial(feature), self.conv_margin_free(feature)
