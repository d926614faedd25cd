"""Stacks of 3x3 convolutions."""

import torch
from mmcv.cnn import ConvModule
from mmdet.utils import OptConfigType
from torch import Tensor, nn

from .winograd import WinogradConv2d, pays


class ConvTower(nn.Sequential):
    """``depth`` times 3x3 convolution, norm, ReLU.

    Args:
        in_channels: C_in.
        channels: C.
        depth: How many; none leaves the map as it is.
        norm_cfg: Norm layer.
        bias: Of the convolutions; ``'auto'`` has one where there is no norm.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        depth: int,
        norm_cfg: OptConfigType = None,
        bias: bool | str = 'auto',
    ) -> None:
        widths = [in_channels] + [channels] * depth
        layers = dict(conv_cfg=dict(type=WinogradConv2d), norm_cfg=norm_cfg, bias=bias)
        super().__init__(
            *(ConvModule(a, b, 3, padding=1, **layers) for a, b in zip(widths, widths[1:]))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Tensor[B, C_in, H, W] -> Tensor[B, C, H, W], channels last where that is faster."""
        if len(self) and pays(x, self[0].conv.weight):
            x = x.contiguous(memory_format=torch.channels_last)
        return super().forward(x)
