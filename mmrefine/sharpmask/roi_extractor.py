"""RoI features of several pyramid levels, each twice as fine as the one before.

Shapes:   B images, N RoIs, C channels, b base size.
"""

from collections.abc import Sequence

import torch
from mmcv import ops
from mmdet.models.roi_heads.roi_extractors import BaseRoIExtractor
from mmdet.registry import MODELS
from mmdet.utils import ConfigType, OptMultiConfig
from torch import Tensor, nn

from mmrefine.layers import roi_align


class RoIAlignLayer(nn.Module):
    """``mmrefine.layers.roi_align`` with the arguments and attributes of mmcv's layer."""

    def __init__(self, output_size: int, spatial_scale: float, sampling_ratio: int = 0) -> None:
        super().__init__()
        self.output_size = (output_size, output_size)
        self.spatial_scale, self.sampling_ratio = spatial_scale, sampling_ratio

    def forward(self, features: Tensor, rois: Tensor) -> Tensor:
        """Tensor[B, C, h, w], Tensor[N, 5] -> Tensor[N, C, S, S]."""
        size = self.output_size[0]
        return roi_align(features, rois, size, self.spatial_scale, self.sampling_ratio)


@MODELS.register_module()
class PyramidRoIExtractor(BaseRoIExtractor):
    """Pool every RoI from every level, coarsest first, on grids of b, 2b, 4b, ... cells.

    The result is a list; stock RoI heads pass it on to the mask head unchanged.

    Args:
        out_channels: C.
        featmap_strides: Strides of the maps, finest first.
        base_size: b, grid side on the coarsest map.
        roi_layer: RoI operator; its ``output_size`` follows from ``base_size``. ``RoIAlign`` is
            this package's, all others are mmcv's.
        level_choice: ``absolute`` pools the given maps from coarsest to finest. ``relative`` starts
            at the level that FPN assigns to the RoI and goes finer until the finest map, which
            small RoIs then use more than once: coarse maps say little about them.
        finest_scale: RoI side in pixels below which FPN assigns the finest map.
    """

    def __init__(
        self,
        out_channels: int = 256,
        featmap_strides: Sequence[int] = (4, 8, 16, 32),
        base_size: int = 7,
        roi_layer: ConfigType = dict(type='RoIAlign', sampling_ratio=0),
        level_choice: str = 'absolute',
        finest_scale: int = 56,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        if level_choice not in ('absolute', 'relative'):
            raise ValueError(f"level_choice must be 'absolute' or 'relative', got {level_choice!r}")
        if base_size < 1:
            raise ValueError(f'base_size must be at least 1, got {base_size}')
        self.base_size, self.level_choice = base_size, level_choice
        self.finest_scale = finest_scale
        super().__init__(roi_layer, out_channels, list(featmap_strides), init_cfg)

    def build_roi_layers(self, layer_cfg: ConfigType, featmap_strides: list[int]) -> nn.ModuleList:
        """One operator per grid and map: the i-th list serves the i-th grid."""
        cfg = {k: v for k, v in layer_cfg.items() if k not in ('type', 'output_size')}
        layer = getattr(ops, layer_cfg['type'])
        if layer is ops.RoIAlign and set(cfg) <= {'sampling_ratio'}:
            layer = RoIAlignLayer
        return nn.ModuleList(
            nn.ModuleList(
                layer(output_size=self.base_size << i, spatial_scale=1 / stride, **cfg)
                for stride in featmap_strides
            )
            for i in range(len(featmap_strides))
        )

    def forward(
        self, feats: Sequence[Tensor], rois: Tensor, roi_scale_factor: float | None = None
    ) -> list[Tensor]:
        """Pool the RoIs to Tensor[N, C, b * 2**i, b * 2**i] for i = 0, 1, ..., coarsest map first.

        Args:
            feats: Maps Tensor[B, C, h_i, w_i], finest first.
            rois: Tensor[N, 5] (image, x1, y1, x2, y2) in pixels of the network input.
            roi_scale_factor: Enlarges the RoIs about their centres.
        """
        if len(feats) != self.num_inputs or feats[0].shape[1] != self.out_channels:
            raise ValueError(
                f'PyramidRoIExtractor pools {self.num_inputs} maps (featmap_strides) of '
                f'{self.out_channels} channels (out_channels), but the neck gives {len(feats)} of '
                f'{feats[0].shape[1]}: set them to what the neck gives'
            )
        rois = rois.float()
        if roi_scale_factor is not None:
            rois = self.roi_rescale(rois, roi_scale_factor)
        if self.level_choice == 'absolute':
            levels = range(self.num_inputs)[::-1]
            return [layers[i](feats[i], rois) for i, layers in zip(levels, self.roi_layers)]
        start = fpn_levels(rois, self.finest_scale, self.num_inputs)  # (N,)
        return [
            pool_assigned(layers, feats, rois, (start - i).clamp(min=0))
            for i, layers in enumerate(self.roi_layers)
        ]


def fpn_levels(rois: Tensor, finest_scale: int, count: int) -> Tensor:
    """Level LongTensor[N] that FPN assigns to RoIs Tensor[N, 5], 0 = finest.

    Without logarithms: those of two libraries disagree where a side is a power of two.
    """
    sides = (rois[:, 3:] - rois[:, 1:3]).clamp(min=0)
    scale = (sides[:, 0] * sides[:, 1]).sqrt() / finest_scale + 1e-6
    steps = [(scale >= 2**level).long() for level in range(1, count)]
    return sum(steps, torch.zeros_like(scale, dtype=torch.long))


def pool_assigned(
    layers: Sequence[nn.Module], feats: Sequence[Tensor], rois: Tensor, levels: Tensor
) -> Tensor:
    """Pool each RoI from its level LongTensor[N]: Tensor[N, C, S, S]."""
    chosen = [(levels == level).nonzero()[:, 0] for level in range(len(feats))]
    # Also with no RoI: every map then has a (zero) gradient on every rank.
    parts = [layer(x, rois[own]) for layer, x, own in zip(layers, feats, chosen)]
    return torch.cat(parts)[torch.cat(chosen).argsort()].to(feats[0].dtype)
