"""Mirror-padded convolutions and a ResNet that also returns its stem.

Paper:    SharpMask, https://arxiv.org/abs/1603.08695 (trunk as in DeepMask,
          https://arxiv.org/abs/1506.06204)
Origin:   facebookresearch/deepmask (Torch7)
Changes:  padding is a property of the convolution, so a stock ``ResNet`` takes it through
          ``conv_cfg``.

Shapes:   B images, C channels, H rows, W columns.
"""

from functools import lru_cache
from typing import Any, Literal

import torch
import torch.nn.functional as F
from mmdet.models.backbones import ResNet
from mmdet.registry import MODELS
from torch import Tensor, nn

PadMode = Literal['symmetric', 'reflect']
_PAD_MODES = ('symmetric', 'reflect')


def mirrored(index: int, size: int, mode: str) -> int:
    """Cell of a map of ``size`` cells that a cell beyond its ends repeats."""
    # 'symmetric' repeats the edge (cba|abc), 'reflect' does not (cb|abc); both continue
    # periodically, so that a map narrower than the pad (down to one cell) is defined as well
    period = 2 * size if mode == 'symmetric' else max(2 * size - 2, 1)
    last = period - 1 if mode == 'symmetric' else period
    index %= period
    return index if index < size else last - index


@lru_cache(maxsize=512)
def _mirror_index(size: int, pad: int, mode: PadMode) -> tuple[int, ...]:
    return tuple(mirrored(i, size, mode) for i in range(-pad, size + pad))


def mirror_pad(x: Tensor, pad: int, mode: PadMode = 'symmetric', grad: bool = True) -> Tensor:
    """Extend a map by its mirror image.

    Args:
        x: Tensor[B, C, H, W].
        pad: Cells added on each side.
        mode: ``symmetric`` repeats the edge cell, ``reflect`` does not.
        grad: Whether the gradient of the ring reaches the mirrored cells.

    Returns:
        Tensor[B, C, H + 2 pad, W + 2 pad].
    """
    if pad == 0:
        return x
    height, width = x.shape[-2:]
    source = x if grad else x.detach()
    if pad == 1 and mode == 'symmetric':
        padded = F.pad(source, (1, 1, 1, 1), mode='replicate')
    elif mode == 'reflect' and min(height, width) > pad:
        padded = F.pad(source, (pad, pad, pad, pad), mode='reflect')
    else:
        rows, cols = (
            torch.tensor(_mirror_index(n, pad, mode), device=x.device) for n in (height, width)
        )
        padded = source.index_select(-2, rows).index_select(-1, cols)
    if not grad and x.requires_grad:
        padded = padded.clone() if padded is source else padded
        padded[..., pad : pad + height, pad : pad + width] = x
    return padded


@MODELS.register_module()
class MirrorPadConv2d(nn.Conv2d):
    """Convolution whose zero padding is replaced by mirror padding; weights and keys are those of
    ``nn.Conv2d``.

    Usable as ``conv_cfg`` wherever mmdet builds convolutions. 1x1 convolutions are unaffected.

    Args:
        pad_mode: ``symmetric`` (edge repeated, the Torch7 code) or ``reflect`` (its PyTorch port
            for 1-px pads).
        wide_pad_mode: Mode for pads wider than one cell; None means ``pad_mode``.
        pad_grad: Whether the gradient of the padding ring reaches the mirrored cells.
            Parity: the Torch7 code drops it (False).

    Raises:
        ValueError: Unknown mode, or unequal or string padding.
    """

    def __init__(
        self,
        *args: Any,
        padding: int | tuple[int, int] = 0,
        pad_mode: PadMode = 'symmetric',
        wide_pad_mode: PadMode | None = None,
        pad_grad: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, padding=0, **kwargs)
        pads = (padding, padding) if isinstance(padding, int) else tuple(padding)
        if isinstance(padding, str) or pads[0] != pads[1]:
            raise ValueError(f'padding must be one number for both axes, got {padding!r}')
        wide_pad_mode = wide_pad_mode or pad_mode
        for mode in (pad_mode, wide_pad_mode):
            if mode not in _PAD_MODES:
                raise ValueError(f'pad mode must be one of {_PAD_MODES}, got {mode!r}')
        self.mirror = pads[0]
        self.mirror_mode = pad_mode if pads[0] <= 1 else wide_pad_mode
        self.pad_grad = pad_grad

    def forward(self, x: Tensor) -> Tensor:
        """Tensor[B, C, H, W] -> Tensor[B, C', H', W']."""
        return super().forward(mirror_pad(x, self.mirror, self.mirror_mode, self.pad_grad))

    def extra_repr(self) -> str:
        """State of the padding next to that of the convolution."""
        return f'{super().extra_repr()}, mirror={self.mirror}, mode={self.mirror_mode}'


@MODELS.register_module()
class StemResNet(ResNet):
    """ResNet that also returns the stride-2 map after the stem's ReLU, first of its outputs.

    With the default stages the outputs are stem, C2, C3, C4 (strides 2, 4, 8, 16).
    """

    def __init__(
        self,
        depth: int,
        num_stages: int = 3,
        strides: tuple[int, ...] = (1, 2, 2),
        dilations: tuple[int, ...] = (1, 1, 1),
        out_indices: tuple[int, ...] = (0, 1, 2),
        **kwargs: Any,
    ) -> None:
        super().__init__(
            depth,
            num_stages=num_stages,
            strides=strides,
            dilations=dilations,
            out_indices=out_indices,
            **kwargs,
        )

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Tensor[B, 3, H, W] -> stem map and one map per output stage."""
        stem = self.stem(x) if self.deep_stem else self.relu(self.norm1(self.conv1(x)))
        outputs, x = [stem], self.maxpool(stem)
        for i, name in enumerate(self.res_layers):
            x = getattr(self, name)(x)
            if i in self.out_indices:
                outputs.append(x)
        return tuple(outputs)

    def train(self, mode: bool = True) -> 'StemResNet':
        """Set the mode as the stock class does, and return self like every other module."""
        super().train(mode)
        return self
