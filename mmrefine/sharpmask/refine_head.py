"""Top-down refinement: merge an object code with ever finer trunk features.

Paper:    SharpMask, https://arxiv.org/abs/1603.08695
Origin:   facebookresearch/deepmask (SharpMask.lua)
Changes:  windows of a whole image are gathered from shared maps; chunks bound the memory.

Shapes:   B images, N windows, K mask channels, F feature channels, s side of a map in its own
          stride.
"""

from collections.abc import Sequence

from mmcv.cnn import build_conv_layer
from mmdet.registry import MODELS
from mmdet.utils import OptConfigType, OptMultiConfig
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn
from torch.nn import functional as F

from .windows import gather_windows


def init_for_depth(layer: nn.Conv2d) -> None:
    """Keep the variance of activations through the layer; weights normal, bias 0.

    With the default of PyTorch and Torch7 the signal halves per layer: after the nine layers
    between code and mask nothing but the last bias learns for thousands of steps.
    """
    nn.init.kaiming_normal_(layer.weight, nonlinearity='relu')
    nn.init.zeros_(layer.bias)


class RefineBranch(nn.ModuleList):
    """3x3 convolutions from one of ``widths`` to the next, a ReLU between them, none behind."""

    def __init__(self, widths: Sequence[int], conv_cfg: OptConfigType = None) -> None:
        pairs = zip(widths[:-1], widths[1:])
        super().__init__(build_conv_layer(conv_cfg, a, b, 3, padding=1) for a, b in pairs)
        for conv in self:
            init_for_depth(conv)

    def forward(self, x: Tensor) -> Tensor:
        """Tensor[N, widths[0], s, s'] -> Tensor[N, widths[-1], s, s']."""
        for i, conv in enumerate(self):
            x = conv(F.relu(x) if i else x)
        return x


class RefineStage(nn.Module):
    """One refinement module: ``up2(ReLU(horizontal(feature) + vertical(mask)))``.

    Args:
        feature_widths: Channels of the horizontal branch, from the feature on, without the last.
        channels, out_channels: K of the incoming and of the outgoing mask encoding, K'.
        conv_cfg: Convolution type.
        upsample: ``nearest`` (the released code), ``bilinear`` (the paper's text) or ``none``.
    """

    def __init__(
        self,
        feature_widths: Sequence[int],
        channels: int,
        out_channels: int,
        conv_cfg: OptConfigType = None,
        upsample: str = 'nearest',
    ) -> None:
        super().__init__()
        if upsample not in ('nearest', 'bilinear', 'none'):
            raise ValueError(f"upsample must be 'nearest', 'bilinear' or 'none', got {upsample!r}")
        self.upsample = upsample
        self.horizontal = RefineBranch((*feature_widths, out_channels), conv_cfg)
        self.vertical = RefineBranch((channels, channels, out_channels), conv_cfg)

    def merge(self, horizontal: Tensor, mask: Tensor) -> Tensor:
        """Tensor[N, K', s, s], Tensor[N, K, s, s] -> Tensor[N, K', 2s, 2s], or s if ``none``."""
        merged = F.relu(horizontal + self.vertical(mask))  # (N, K', s, s)
        if self.upsample == 'none':
            return merged
        align = None if self.upsample == 'nearest' else False
        return F.interpolate(merged, scale_factor=2.0, mode=self.upsample, align_corners=align)

    def forward(self, feature: Tensor, mask: Tensor) -> Tensor:
        """Tensor[N, F, s, s], Tensor[N, K, s, s] -> Tensor[N, K', 2s, 2s]."""
        return self.merge(self.horizontal(feature), mask)


@MODELS.register_module()
class TopDownRefineHead(BaseModule):
    """Mask encoding and four refinement modules up to the patch resolution.

    Args:
        feature_channels: Widths of the trunk maps, coarsest (stride 16) first.
        code_channels: Width of the window code.
        grid_size: Window side at stride 16.
        channels: Channels of the first mask encoding; halved by every module. A multiple of 16.
        hidden_channels: First width of each horizontal branch.
            The Torch7 code uses 32 in the last module, its port 64.
        upsample: ``nearest`` (released code) or ``bilinear`` (paper).
        conv_cfg: Convolution type; the released models need ``MirrorPadConv2d``.
    """

    def __init__(
        self,
        feature_channels: Sequence[int] = (1024, 512, 256, 64),
        code_channels: int = 512,
        grid_size: int = 10,
        channels: int = 32,
        hidden_channels: Sequence[int] = (64, 64, 64, 32),
        upsample: str = 'nearest',
        conv_cfg: OptConfigType = dict(type='MirrorPadConv2d'),
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(init_cfg)
        depth = len(feature_channels)
        if len(hidden_channels) != depth:
            raise ValueError(
                f'hidden_channels needs {depth} values, one per feature, got {hidden_channels}'
            )
        if channels <= 0 or channels % 2**depth:
            raise ValueError(f'channels must be a multiple of {2**depth}, got {channels}')
        self.grid_size = grid_size
        self.channels = channels
        self.mask_encoding = nn.Conv2d(code_channels, channels * grid_size**2, 1)
        self.stages = ModuleList(
            RefineStage(
                (feature_channels[i], hidden_channels[i], channels >> i),
                channels >> i,
                channels >> (i + 1),
                conv_cfg,
                upsample,
            )
            for i in range(depth)
        )
        self.predictor = build_conv_layer(conv_cfg, channels >> depth, 1, 3, padding=1)
        for layer in (self.mask_encoding, self.predictor):
            init_for_depth(layer)

    def encode(self, codes: Tensor) -> Tensor:
        """Window codes Tensor[N, D] -> first mask encoding Tensor[N, K, G, G]."""
        encoding = self.mask_encoding
        maps = F.linear(codes, encoding.weight.flatten(1), encoding.bias)
        return maps.unflatten(1, (self.channels, self.grid_size, self.grid_size))

    def refine(self, horizontals: Sequence[Tensor], codes: Tensor) -> Tensor:
        """Merge window-sized horizontal maps Tensor[N, K_i / 2, s_i, s_i], coarsest first, with
        codes Tensor[N, D] to mask logits Tensor[N, S, S]."""
        mask = self.encode(codes)  # (N, K, G, G)
        for stage, horizontal in zip(self.stages, horizontals, strict=True):
            mask = stage.merge(horizontal, mask)  # half the channels, twice the side
        return self.predictor(mask).squeeze(1)

    def forward_patch(self, features: Sequence[Tensor], codes: Tensor, margin: int = 0) -> Tensor:
        """Mask logits Tensor[B, S, S] of training patches, from their trunk maps, coarsest first,
        and codes Tensor[B, D]; ``margin`` is the context ring to cut off, in stride-16 cells."""
        # The maps are ever finer by two, and so is their margin.
        cuts = [margin << i for i in range(len(features))]
        cut = [x[..., m : x.shape[-2] - m, m : x.shape[-1] - m] for x, m in zip(features, cuts)]
        horizontals = [stage.horizontal(x) for stage, x in zip(self.stages, cut, strict=True)]
        return self.refine(horizontals, codes)

    def forward_windows(
        self, horizontals: Sequence[Tensor], codes: Tensor, cells: Tensor
    ) -> Tensor:
        """Mask logits Tensor[N, S, S] of windows of a whole image.

        Maps of the horizontal branches of one image, coarsest first, codes Tensor[N, D], and cells
        LongTensor[N, 2], row and column of each window on the stride-16 map.
        """
        windows = [
            gather_windows(x, cells, self.grid_size << i, 1 << i) for i, x in enumerate(horizontals)
        ]
        return self.refine(windows, codes)
