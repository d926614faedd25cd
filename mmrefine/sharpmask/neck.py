"""Top-down refinement over whole feature maps: a drop-in for FPN.

Paper:    SharpMask, https://arxiv.org/abs/1603.08695; the interface is that of FPN,
          https://arxiv.org/abs/1612.03144
Changes:  the refinement runs on the pyramid of a detector's backbone, and every level is an output.

Shapes:   B images, C_i backbone channels, K channels of the top-down path.
"""

from collections.abc import Sequence

from mmcv.cnn import ConvModule
from mmdet.registry import MODELS
from mmdet.utils import OptConfigType, OptMultiConfig
from mmengine.model import BaseModule, ModuleList
from torch import Tensor
from torch.nn import functional as F

from .refine_head import RefineStage

EXTRA_SOURCES = ('on_input', 'on_lateral', 'on_output')


@MODELS.register_module()
class TopDownRefineNeck(BaseModule):
    """Refinement modules between neighbouring levels; outputs have the shapes and strides of FPN's.

    ``M_top = 1x1(C_top)``; ``M_i = ReLU(horizontal(C_i) + vertical(up(M_{i+1})))``; ``P_i =
    3x3(M_i)``.

    Args:
        in_channels: C_i, finest level first.
        out_channels: Channels of all outputs.
        num_outs: Number of outputs; those beyond the backbone's levels are extra.
        start_level: First backbone level used.
        add_extra_convs, relu_before_extra_convs: As in FPN; True is ``on_input``, False subsamples
            the last output.
        channels: K; None means half of ``out_channels``.
        hidden_channels: First width of the horizontal branches.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        num_outs: int,
        start_level: int = 0,
        add_extra_convs: bool | str = False,
        relu_before_extra_convs: bool = False,
        channels: int | None = None,
        hidden_channels: int = 64,
        norm_cfg: OptConfigType = None,
        init_cfg: OptMultiConfig = dict(type='Xavier', layer='Conv2d', distribution='uniform'),
    ) -> None:
        super().__init__(init_cfg)
        used = list(in_channels)[start_level:]
        if num_outs < len(used) or not used:
            raise ValueError(f'num_outs must be at least {len(used)} (levels used), got {num_outs}')
        source = 'on_input' if add_extra_convs is True else add_extra_convs
        if source and source not in EXTRA_SOURCES:
            raise ValueError(
                f'add_extra_convs must be a bool or one of {EXTRA_SOURCES}, got {source!r}'
            )
        self.start_level, self.num_outs = start_level, num_outs
        self.extra_source = source
        self.relu_before_extra_convs = relu_before_extra_convs
        width = channels or out_channels // 2
        self.encoding = ConvModule(used[-1], width, 1, act_cfg=None)
        self.stages = ModuleList(
            RefineStage((c, hidden_channels), width, width, upsample='none') for c in used[:-1]
        )
        self.output_convs = ModuleList(
            ConvModule(width, out_channels, 3, padding=1, norm_cfg=norm_cfg, act_cfg=None)
            for _ in used
        )
        first = dict(on_input=used[-1], on_lateral=width, on_output=out_channels).get(str(source))
        extra = num_outs - len(used) if source else 0
        self.extra_convs = ModuleList(
            ConvModule(c, out_channels, 3, 2, 1, norm_cfg=norm_cfg, act_cfg=None)
            for c in [first, *[out_channels] * extra][:extra]
        )

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Backbone maps Tensor[B, C_i, h_i, w_i] -> ``num_outs`` maps Tensor[B, out_channels, h_i,
        w_i]."""
        used = inputs[self.start_level :]
        merged = [self.encoding(used[-1])]  # (B, K, h, w), coarsest; finer ones go in front
        for stage, feature in zip(self.stages[::-1], used[-2::-1]):
            mask = F.interpolate(merged[0], size=feature.shape[-2:], mode='nearest')
            merged.insert(0, stage(feature, mask))
        outputs = [conv(x) for conv, x in zip(self.output_convs, merged)]
        sources = dict(on_input=used[-1], on_lateral=merged[-1], on_output=outputs[-1])
        x = sources.get(str(self.extra_source))
        for i in range(self.num_outs - len(outputs)):
            if not self.extra_source:
                x = F.max_pool2d(outputs[-1], 1, stride=2)  # every second cell, as in FPN
            else:
                x = self.extra_convs[i](F.relu(x) if i and self.relu_before_extra_convs else x)
            outputs.append(x)
        return tuple(outputs)
