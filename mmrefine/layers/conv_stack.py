"""Stacks of convolutions that keep the size of the map."""

from mmcv.cnn import ConvModule
from mmdet.utils import OptConfigType
from torch import nn


class ConvStack(nn.Sequential):
    """``depth`` times convolution, norm, ReLU: Tensor[B, C_in, H, W] -> Tensor[B, C, H, W].

    Args:
        in_channels: C_in.
        channels: C.
        depth: How many; none leaves the map as it is.
        kernel_size: Side of the kernels, odd.
        conv_cfg: Convolution layer; None is ``nn.Conv2d``.
        norm_cfg: Norm layer; None has none.
        bias: Of the convolutions; ``'auto'`` has one where there is no norm.

    Raises:
        ValueError: ``kernel_size`` is even.
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
