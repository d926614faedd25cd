"""Fusion blocks: dilated branches summed and merged, at constant width.

Paper: RefineMask (CVPR 2021), section 3.2. Origin: ``refine_mask_head.py`` of the authors'
repository.
"""

from collections.abc import Sequence

from mmcv.cnn import ConvModule
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor


@MODELS.register_module()
class MultiBranchFusion(BaseModule):
    """Sum 3x3 convolutions of several dilations and merge them by a 1x1 convolution without
    activation.

    Args:
        channels: Width of input and output.
        dilations: One branch per entry.
        conv_cfg: Convolution layer, as in mmcv; None is ``Conv2d``.
        norm_cfg: Normalisation after every convolution; None (the published weights) uses a bias
            instead.
    """

    def __init__(
        self,
        channels: int,
        dilations: Sequence[int] = (1, 3, 5),
        conv_cfg: dict | None = None,
        norm_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if not dilations:
            raise ValueError('dilations must name at least one branch, e.g. (1, 3, 5)')
        layers = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg)
        self.branches = [f'dilation_conv_{i + 1}' for i in range(len(dilations))]
        for name, dilation in zip(self.branches, dilations):
            conv = ConvModule(channels, channels, 3, padding=dilation, dilation=dilation, **layers)
            self.add_module(name, conv)
        self.merge_conv = ConvModule(channels, channels, 1, act_cfg=None, **layers)

    def summed_branches(self, x: Tensor) -> Tensor:
        """Tensor[N, C, H, W] -> Tensor[N, C, H, W]."""
        total = getattr(self, self.branches[0])(x)
        for name in self.branches[1:]:
            total = total + getattr(self, name)(x)
        return total

    def forward(self, x: Tensor) -> Tensor:
        """Tensor[N, C, H, W] -> Tensor[N, C, H, W]."""
        return self.merge_conv(self.summed_branches(x))


@MODELS.register_module()
class MultiBranchFusionAvg(MultiBranchFusion):
    """``MultiBranchFusion`` with the spatial mean of the input as one more branch."""

    def forward(self, x: Tensor) -> Tensor:
        """Tensor[N, C, H, W] -> Tensor[N, C, H, W]."""
        return self.merge_conv(self.summed_branches(x) + x.mean((2, 3), keepdim=True))
