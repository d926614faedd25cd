"""Stacks of 3x3 convolutions."""

from mmcv.cnn import ConvModule
from mmdet.utils import OptConfigType
from torch import nn

from .winograd import WinogradConv2d


def conv_tower(
    in_channels: int,
    channels: int,
    depth: int,
    norm_cfg: OptConfigType = None,
    bias: bool | str = 'auto',
) -> nn.Sequential:
    """``depth`` times 3x3 convolution, norm, ReLU: Tensor[B, C_in, H, W] -> [B, C, H, W].

    Args:
        in_channels: C_in.
        channels: C.
        depth: How many; none leaves the map as it is.
        norm_cfg: Norm layer.
        bias: Of the convolutions; ``'auto'`` has one where there is no norm.
    """
    widths = [in_channels] + [channels] * depth
    return nn.Sequential(
        *(
            ConvModule(
                a,
                b,
                3,
                padding=1,
                conv_cfg=dict(type=WinogradConv2d),
                norm_cfg=norm_cfg,
                bias=bias,
            )
            for a, b in zip(widths, widths[1:])
        )
    )
