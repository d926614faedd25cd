"""Stacks of convolutions that keep the size of the map."""

from mmcv.cnn import ConvModule
from mmdet.utils import OptConfigType
from torch import nn


class ConvStack(nn.Sequential):
    """``depth`` times convolution, norm, ReLU: Tensor[B, C_in, H, W] -> Tensor[B, C, H, W].

    Args:
        in_channels, channels: C_in and C.
        depth: How many; 0 leaves the map as it is.
        kernel_size: Odd.
        conv_cfg, norm_cfg: As in mmcv; None is ``nn.Conv2d`` and no norm.
        bias: Of the convolutions; ``'auto'`` has one where there is no norm.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        depth: int,
        kernel_size: int = 3,
        conv_cfg: OptConfigType = None,
        norm_cfg: OptConfigType = None,
        bias: bool | str = 'auto',
    ) -> None:
        if kernel_size % 2 == 0:
            raise ValueError(
                f'the kernel size must be odd to keep the size of the map, got {kernel_size}'
            )
        widths = [in_channels] + [channels] * depth
        layers = dict(padding=kernel_size // 2, conv_cfg=conv_cfg, norm_cfg=norm_cfg, bias=bias)
        super().__init__(
            *(ConvModule(a, b, kernel_size, **layers) for a, b in zip(widths, widths[1:]))
        )
