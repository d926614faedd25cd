"""RoI features of several pyramid levels, each twice as fine as the one before.

Shapes:   B images, N RoIs, C channels, b base size.
"""

from collections.abc import Sequence

import torch
from mmdet.registry import MODELS
from mmdet.utils import ConfigType, OptMultiConfig
from mmengine.model import BaseModule
from torch import Tensor

from mmrefine.layers import roi_align

# What a ``roi_layer`` may say, and may choose.
FIXED = dict(type='RoIAlign', aligned=True, pool_mode='avg')
FREE = ('sampling_ratio', 'output_size')


@MODELS.register_module()
class PyramidRoIExtractor(BaseModule):
    """Pool every RoI from every level, coarsest first, on grids of b, 2b, 4b, ... cells.

    The result is a list; stock RoI heads pass it on to the mask head unchanged.

    Args:
        out_channels: C.
        featmap_strides: Strides of the maps, finest first.
        base_size: b, grid side on the coarsest map.
        roi_layer: Its ``sampling_ratio`` is that of the RoIAlign in every level; ``output_size`` is
            not read. Other operators than ``RoIAlign`` are refused.
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
        super().__init__(init_cfg)
        if level_choice not in ('absolute', 'relative'):
            raise ValueError(f"level_choice must be 'absolute' or 'relative', got {level_choice!r}")
        if base_size < 1:
            raise ValueError(f'base_size must be at least 1, got {base_size}')
        if any(FIXED.get(key) != value for key, value in roi_layer.items() if key not in FREE):
            raise ValueError(
                "roi_layer must be dict(type='RoIAlign', sampling_ratio=...), "
                f'got {dict(roi_layer)}'
            )
        self.out_channels, self.featmap_strides = out_channels, list(featmap_strides)
        self.num_inputs = len(self.featmap_strides)
        self.base_size, self.level_choice = base_size, level_choice
        self.finest_scale = finest_scale
        self.sampling_ratio = roi_layer.get('sampling_ratio', 0)

    def forward(self, feats: Sequence[Tensor], rois: Tensor) -> list[Tensor]:
        """Pool the RoIs to Tensor[N, C, b * 2**i, b * 2**i] for i = 0, 1, ..., coarsest map first,
        in the type of the maps.

        Args:
            feats: Maps Tensor[B, C, h_i, w_i], finest first.
            rois: Tensor[N, 5] (image, x1, y1, x2, y2) in pixels of the network input.
        """
        if len(feats) != self.num_inputs or feats[0].shape[1] != self.out_channels:
            raise ValueError(
                f'PyramidRoIExtractor pools {self.num_inputs} maps (featmap_strides) of '
                f'{self.out_channels} channels (out_channels), but the neck gives {len(feats)} of '
                f'{feats[0].shape[1]}: set them to what the neck gives'
            )
        rois, grids = rois.float(), range(self.num_inputs)
        sizes, ratio = [self.base_size << i for i in grids], self.sampling_ratio
        if self.level_choice == 'absolute':
            levels = zip(feats[::-1], sizes, self.featmap_strides[::-1])
            return [roi_align(x, rois, s, 1 / stride, ratio).to(x.dtype) for x, s, stride in levels]
        start = fpn_levels(rois, self.finest_scale, self.num_inputs)  # (N,)
        return [
            pool_assigned(
                feats, rois, (start - i).clamp(min=0), sizes[i], self.featmap_strides, ratio
            )
            for i in grids
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
    feats: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor,
    size: int,
    strides: Sequence[int],
    sampling_ratio: int,
) -> Tensor:
    """Pool each RoI from its level LongTensor[N]: Tensor[N, C, size, size] in the type of
    ``feats``."""
    chosen = [(levels == level).nonzero()[:, 0] for level in range(len(feats))]
    # Also with no RoI: every map then has a (zero) gradient on every rank.
    parts = [
        roi_align(x, rois[own], size, 1 / stride, sampling_ratio)
        for x, own, stride in zip(feats, chosen, strides)
    ]
    return torch.cat(parts)[torch.cat(chosen).argsort()].to(feats[0].dtype)
