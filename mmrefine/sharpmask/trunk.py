"""Mirror-padded convolutions, and a ResNet that also returns its stem and can run tile by tile.

Paper:    SharpMask, https://arxiv.org/abs/1603.08695 (trunk as in DeepMask,
          https://arxiv.org/abs/1506.06204)
Origin:   facebookresearch/deepmask (Torch7)
Changes:  padding is a property of the convolution, so a stock ``ResNet`` takes it through
          ``conv_cfg``; large images are computed in overlapping tiles.

Shapes:   B images, C channels, H rows, W columns.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.models.backbones import ResNet
from mmdet.models.backbones.resnet import BasicBlock, Bottleneck
from mmdet.registry import MODELS
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

PAD_MODES = ('symmetric', 'reflect')

# Pixels per cell of the trunk's last map.
STRIDE = 16


def _mirror_index(size: int, pad: int, mode: str, device: torch.device) -> Tensor:
    """Cell that each cell of the padded axis repeats: LongTensor[size + 2 pad]."""
    # 'symmetric' repeats the edge (cba|abc), 'reflect' does not (cb|abc). Both continue
    # periodically, so a map narrower than the pad (down to one cell) is defined as well.
    period = 2 * size if mode == 'symmetric' else max(2 * size - 2, 1)
    last = period - 1 if mode == 'symmetric' else period
    index = torch.arange(-pad, size + pad, device=device) % period
    return torch.minimum(index, last - index)


def mirror_pad(x: Tensor, pad: int, mode: str = 'symmetric', grad: bool = True) -> Tensor:
    """Extend a map by its mirror image, Tensor[B, C, H, W] -> Tensor[B, C, H + 2 pad, W + 2 pad].

    ``symmetric`` repeats the edge cell, ``reflect`` does not; ``grad`` is whether the gradient of
    the ring reaches the mirrored cells.
    """
    if pad == 0:
        return x
    height, width = x.shape[-2:]
    source = x if grad else x.detach()
    # torch's own kernels are faster than indexing, but know neither wide symmetric pads nor maps
    # narrower than the pad.
    if pad == 1 and mode == 'symmetric':
        padded = F.pad(source, (1, 1, 1, 1), mode='replicate')
    elif mode == 'reflect' and min(height, width) > pad:
        padded = F.pad(source, (pad, pad, pad, pad), mode='reflect')
    else:
        rows, cols = (_mirror_index(n, pad, mode, x.device) for n in (height, width))
        padded = source.index_select(-2, rows).index_select(-1, cols)
    if not grad and x.requires_grad:
        # The ring stays a constant; only the middle passes its gradient on.
        padded[..., pad : pad + height, pad : pad + width] = x
    return padded


@MODELS.register_module()
class MirrorPadConv2d(nn.Conv2d):
    """Convolution with mirror padding instead of zero padding; weights and keys are those of
    ``nn.Conv2d``.

    Usable as ``conv_cfg`` wherever mmdet builds convolutions. 1x1 convolutions are unaffected.

    Args:
        pad_mode: ``symmetric`` (edge repeated, the Torch7 code) or ``reflect`` (its PyTorch port
            for 1-px pads).
        wide_pad_mode: Mode for pads wider than one cell; None means ``pad_mode``.
        pad_grad: Whether the gradient of the padding ring reaches the mirrored cells.
            Parity: the Torch7 code drops it (False).
    """

    def __init__(
        self,
        *args: Any,
        padding: int | tuple[int, int] = 0,
        pad_mode: str = 'symmetric',
        wide_pad_mode: str | None = None,
        pad_grad: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, padding=0, **kwargs)
        pads = (padding, padding) if isinstance(padding, int) else tuple(padding)
        if isinstance(padding, str) or pads[0] != pads[1]:
            raise ValueError(f'padding must be one number for both axes, got {padding!r}')
        wide_pad_mode = wide_pad_mode or pad_mode
        for mode in (pad_mode, wide_pad_mode):
            if mode not in PAD_MODES:
                raise ValueError(f'pad mode must be one of {PAD_MODES}, got {mode!r}')
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

    def __init__(self, depth: int, **kwargs: Any) -> None:
        stages: dict[str, Any] = dict(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1))
        super().__init__(depth, **stages | dict(out_indices=(0, 1, 2)) | kwargs)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Tensor[B, 3, H, W] -> stem map and one map per output stage."""
        outputs: list[Tensor] = []
        self.visit(x, outputs.append)
        return tuple(outputs)

    def visit(self, x: Tensor, read: Callable[[Tensor], None]) -> Tensor:
        """Call ``read`` with each map as soon as it is computed, and return the last one.

        A map that ``read`` does not keep is freed before the next stage runs.
        """
        # One name for every map, so that nothing here keeps an older one alive.
        x = self.stem(x) if self.deep_stem else self.relu(self.norm1(self.conv1(x)))
        read(x)  # (B, C, H/2, W/2)
        x = self.maxpool(x)  # (B, C, H/4, W/4)
        for i, name in enumerate(self.res_layers):
            x = getattr(self, name)(x)
            if i in self.out_indices:
                read(x)
        return x

    def train(self, mode: bool = True) -> 'StemResNet':
        """Set the mode as the stock class does, and return self like every other module."""
        super().train(mode)
        return self


# Modules whose output at a cell depends on a bounded neighbourhood only.
_LOCAL = (
    StemResNet, BasicBlock, Bottleneck, nn.Sequential, nn.Conv2d, _BatchNorm, nn.ReLU,
    nn.MaxPool2d, nn.AvgPool2d,
)  # fmt: skip


def receptive_radius(trunk: nn.Module) -> int | None:
    """Largest distance in pixels of the centre of a cell of the last map and what it depends on.

    None if it may be the whole image: in training mode, with group normalisation or attention
    plugins, and for trunks other than ``StemResNet``.
    """
    known = isinstance(trunk, StemResNet) and all(isinstance(m, _LOCAL) for m in trunk.modules())
    if not known or any(isinstance(m, _BatchNorm) and m.training for m in trunk.modules()):
        return None
    radius, stride = 0, 1
    for name, module in trunk.named_modules():  # in the order of the forward pass
        # The shortcut of a block sees no further than its main branch.
        if isinstance(module, (nn.Conv2d, nn.MaxPool2d)) and 'downsample' not in name:
            kernel, step, dilation = (
                max(v) if isinstance(v, tuple) else v
                for v in (module.kernel_size, module.stride, module.dilation)
            )
            radius += dilation * (kernel // 2) * stride
            stride *= step
    return radius


def _cut(length: int, count: int) -> list[tuple[int, int]]:
    """At most ``count`` spans of one length, multiples of ``STRIDE`` but for the last."""
    step = math.ceil(length / count / STRIDE) * STRIDE
    return [(begin, min(begin + step, length)) for begin in range(0, length, step)]


def tiles(size: tuple[int, int], halo: int, limit: int) -> Iterator[tuple[tuple[int, int], ...]]:
    """Cut an image into the tiles that cost least, see ``run_in_tiles``: spans of rows and of
    columns, without the halo."""

    def cost(cuts: tuple[int, int]) -> tuple[int, int]:
        height, width = (
            min(math.ceil(n / c / STRIDE) * STRIDE + 2 * halo * (c > 1), n)
            for n, c in zip(size, cuts)
        )
        return max(height * width, limit), height * width * cuts[0] * cuts[1]

    # Tiles smaller than their halo would mostly compute their surroundings.
    most = [max(n // max(halo, STRIDE), 1) for n in size]
    best = min(((r, c) for r in range(1, most[0] + 1) for c in range(1, most[1] + 1)), key=cost)
    for rows in _cut(size[0], best[0]):
        for cols in _cut(size[1], best[1]):
            yield rows, cols


def run_in_tiles(
    network: Callable[[Tensor], Sequence[Tensor]],
    image: Callable[[int, int, int, int], Tensor],
    size: tuple[int, int],
    strides: Iterable[int],
    halo: int,
    limit: int,
) -> list[Tensor]:
    """Compute the maps of a large image tile by tile; equal to those of the image as a whole.

    Inside the image the cells near a tile's edge are computed from padding and dropped, ``halo``
    pixels wide. At the image's own edge the padding is the right one, and tiles end there. Larger
    tiles need more memory and compute fewer pixels twice.

    Args:
        network: Tensor[1, 3, h, w] -> maps Tensor[1, C_i, ceil(h / stride_i), ceil(w / stride_i)].
        image: Gives the part (y1, x1, y2, x2) of the image, Tensor[1, 3, y2 - y1, x2 - x1].
        size: ``(H, W)`` of the image.
        strides: Stride of each map, divisors of ``STRIDE``.
        halo: At least the radius that the maps see; a multiple of ``STRIDE``.
        limit: Largest number of pixels of a tile with its halo, where possible.
    """
    strides, maps = list(strides), []
    for (y1, y2), (x1, x2) in tiles(size, halo, limit):
        top, left = max(y1 - halo, 0), max(x1 - halo, 0)
        parts = network(image(top, left, min(y2 + halo, size[0]), min(x2 + halo, size[1])))
        if not maps:
            maps = [
                part.new_empty(1, part.shape[1], *(-(-n // stride) for n in size))
                for part, stride in zip(parts, strides)
            ]
        for target, part, stride in zip(maps, parts, strides, strict=True):
            rows, cols = (slice(a // stride, -(-b // stride)) for a, b in ((y1, y2), (x1, x2)))
            space = target[..., rows, cols]
            inner = part[..., (y1 - top) // stride :, (x1 - left) // stride :]  # without the halo
            space.copy_(inner[..., : space.shape[-2], : space.shape[-1]])
    return maps
