"""Run a trunk over an image a strip of rows at a time, every row once.

Each convolution keeps the few input rows that its next output rows still need, so nothing is
computed twice and no map of the whole image exists but the ones asked for. Normalisations are
folded into the convolutions. A strip's maps stay in the processor's cache.

Shapes:   C channels, H x W image, h x w map, n rows of a strip.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from mmdet.models.backbones.resnet import BasicBlock, Bottleneck
from mmdet.models.layers import ResLayer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from .trunk import MirrorPadConv2d, StemResNet, mirrored

CHANNELS_LAST = torch.channels_last
_KNOWN = (StemResNet, ResLayer, BasicBlock, nn.Sequential, nn.ReLU, nn.MaxPool2d)


@dataclass(frozen=True)
class FoldedConv:
    """A convolution together with the normalisation and the activation behind it.

    Attributes:
        weight: Tensor[C', C, k, k].
        bias: Tensor[C'].
        stride: Of both axes.
        pad: Cells of padding on each side.
        mode: ``symmetric``, ``reflect`` or ``zeros``.
        relu: Whether a ReLU follows.
    """

    weight: Tensor
    bias: Tensor
    stride: int
    pad: int
    mode: str
    relu: bool

    @property
    def span(self) -> int:
        """Rows that one output row reads."""
        return self.weight.shape[-2]

    def __call__(self, x: Tensor) -> Tensor:
        """Tensor[1, C, n + 2 pad, w + 2 pad] -> Tensor[1, C', n / stride, w / stride]."""
        out = F.conv2d(x, self.weight, self.bias, self.stride)
        return out.relu_() if self.relu else out


@dataclass(frozen=True)
class _MaxPool:
    """The stem's 3x3 maximum; a mirrored ring changes no maximum."""

    span: int = 3
    stride: int = 2
    pad: int = 1
    mode: str = 'symmetric'

    def __call__(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, self.span, self.stride)


def fold(
    conv: nn.Conv2d, norm: nn.Module | None, relu: bool, dtype: torch.dtype = torch.float32
) -> FoldedConv:
    """Merge a convolution with the batch normalisation (in evaluation mode) behind it."""
    weight = conv.weight.float()
    bias = weight.new_zeros(len(weight)) if conv.bias is None else conv.bias.float()
    if norm is not None:
        factor = norm.weight.float() * (norm.running_var.float() + norm.eps).rsqrt()
        weight = weight * factor[:, None, None, None]
        bias = norm.bias.float() + (bias - norm.running_mean.float()) * factor
    weight = weight.contiguous(memory_format=CHANNELS_LAST)
    mirror = isinstance(conv, MirrorPadConv2d)
    return FoldedConv(
        weight.to(dtype),
        bias.to(dtype),
        conv.stride[0],
        conv.mirror if mirror else conv.padding[0],
        conv.mirror_mode if mirror else 'zeros',
        relu,
    )


def can_fold(trunk: nn.Module, convs: Sequence[nn.Module] = ()) -> bool:
    """Whether ``StripPlan`` reproduces a trunk and convolutions on its maps.

    That takes a ``StemResNet`` with a plain stem, ordinary or mirror-padded convolutions, and
    batch normalisations in evaluation mode.
    """
    if type(trunk) is not StemResNet or trunk.deep_stem:
        return False
    return all(_is_known(module) for module in (*trunk.modules(), *convs))


def _is_known(module: nn.Module) -> bool:
    if isinstance(module, _BatchNorm):
        return not module.training and module.affine and module.track_running_stats
    if isinstance(module, nn.Conv2d):
        square = all(len(set(v)) == 1 for v in (module.kernel_size, module.stride, module.padding))
        plain = module.padding_mode == 'zeros' and module.groups == 1 and max(module.dilation) == 1
        return type(module) in (nn.Conv2d, MirrorPadConv2d) and square and plain
    if isinstance(module, Bottleneck):
        return type(module) is Bottleneck and not module.with_plugins
    return type(module) in _KNOWN


@dataclass(frozen=True)
class _Block:
    """Folded residual block."""

    main: Sequence[FoldedConv]
    shortcut: FoldedConv | None


class StripPlan:
    """A trunk and branches on its maps, folded once for all levels of an image.

    Args:
        trunk: ``StemResNet`` that ``can_fold`` accepts.
        branches: Pairs of the index of a trunk map (finest first) and the convolutions on it,
            each with the flag whether a ReLU follows.
        dtype: Precision of weights and maps.
    """

    def __init__(
        self,
        trunk: StemResNet,
        branches: Sequence[tuple[int, Sequence[tuple[nn.Conv2d, bool]]]],
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.dtype = dtype
        self.stem = fold(trunk.conv1, trunk.norm1, True, dtype)
        self.layers = [
            [self._block(block) for block in getattr(trunk, name)] for name in trunk.res_layers
        ]
        stage_of_map = (0, *(i + 1 for i in trunk.out_indices))
        self.branches = [
            (stage_of_map[index], [fold(conv, None, relu, dtype) for conv, relu in convs])
            for index, convs in branches
        ]

    def _block(self, block: BasicBlock | Bottleneck) -> _Block:
        names = ('1', '2', '3') if isinstance(block, Bottleneck) else ('1', '2')
        main = [
            fold(getattr(block, f'conv{i}'), getattr(block, f'norm{i}'), i != names[-1], self.dtype)
            for i in names
        ]
        down = block.downsample
        return _Block(main, None if down is None else fold(down[0], down[1], False, self.dtype))

    def run(self, rows: Callable[[int, int], Tensor], height: int, step: int) -> list[Tensor]:
        """Evaluate the branches.

        Args:
            rows: Gives the image rows begin to end, Tensor[1, 3, end - begin, W].
            height: H.
            step: Rows per strip.

        Returns:
            One Tensor[1, C_i, h_i, w_i] per branch.
        """
        stem = _SlidingRows(self.stem, height)
        pool = _SlidingRows(_MaxPool(), stem.rows)
        stages: list[list] = [[stem]]
        for layer in self.layers:
            before = [pool] if len(stages) == 1 else []
            stages.append([*before, *_stack(layer, (before or stages[-1])[-1].rows)])
        sinks = [
            (tap, _stack(convs, stages[tap][-1].rows), _Canvas()) for tap, convs in self.branches
        ]
        for begin in range(0, height, step):
            x: Tensor | None = rows(begin, min(begin + step, height))
            x = x.to(self.dtype, memory_format=CHANNELS_LAST)
            for i, stage in enumerate(stages):
                x = _push(stage, x)
                for tap, chain, canvas in sinks:
                    if tap == i and x is not None:
                        canvas.add(_push(chain, x), chain[-1].rows)
        return [canvas.image for _, _, canvas in sinks]


class _Canvas:
    """A map that grows by strips."""

    image: Tensor

    def __init__(self) -> None:
        self.filled = 0

    def add(self, rows: Tensor | None, height: int) -> None:
        if rows is None:
            return
        if not self.filled:
            shape = (1, rows.shape[1], height, rows.shape[3])
            self.image = torch.empty(
                shape, dtype=rows.dtype, device=rows.device, memory_format=CHANNELS_LAST
            )
        self.image[:, :, self.filled : self.filled + rows.shape[2]] = rows
        self.filled += rows.shape[2]


class _SlidingRows:
    """State of one sliding operation between two strips.

    Attributes:
        rows: Height of the whole output map.
    """

    def __init__(self, op: FoldedConv | _MaxPool, height: int) -> None:
        self.op = op
        self.height = height
        self.rows = (height + 2 * op.pad - op.span) // op.stride + 1
        self._held: Tensor | None = None
        self._base = 0  # index of the first row held
        self._done = 0  # output rows delivered

    def push(self, rows: Tensor) -> Tensor | None:
        """Take the next input rows, give the output rows that they complete (None: no row)."""
        op = self.op
        if op.span == op.stride == 1:
            return op(rows)
        held = self._widened(rows)
        end = self._base + held.shape[2]
        ready = max((end + op.pad - op.span) // op.stride + 1, self._done)
        if end == self.height:
            ready = self.rows
        out = op(self._window(held, ready)) if ready > self._done else None
        keep = min(max(ready * op.stride - op.pad, self._base), end)
        # a view would keep the whole strip alive
        self._held = held[:, :, keep - self._base :].clone()
        self._base, self._done = keep, ready
        return out

    def _widened(self, rows: Tensor) -> Tensor:
        """Held and new rows with the padding ring at the left and the right."""
        pad, kept = self.op.pad, 0 if self._held is None else self._held.shape[2]
        batch, channels, count, width = rows.shape
        shape = (batch, channels, kept + count, width + 2 * pad)
        wide = torch.empty(shape, dtype=rows.dtype, device=rows.device, memory_format=CHANNELS_LAST)
        if self._held is not None:
            wide[:, :, :kept] = self._held
        new = wide[:, :, kept:]
        new[..., pad : pad + width] = rows
        for column in (*range(-pad, 0), *range(width, width + pad)):
            if self.op.mode == 'zeros':
                new[..., column + pad] = 0
            else:
                new[..., column + pad] = rows[..., mirrored(column, width, self.op.mode)]
        return wide

    def _window(self, held: Tensor, ready: int) -> Tensor:
        """Input rows of the output rows up to ``ready``, with the ring above and below the map."""
        op = self.op
        first = self._done * op.stride - op.pad
        last = (ready - 1) * op.stride - op.pad + op.span
        begin, end = max(first, 0), min(last, self.height)
        inside = held[:, :, begin - self._base : end - self._base]
        if (begin, end) == (first, last):
            return inside
        above, below = (
            [self._ring_row(held, i) for i in span]
            for span in (range(first, begin), range(end, last))
        )
        return torch.cat([*above, inside, *below], 2)

    def _ring_row(self, held: Tensor, row: int) -> Tensor:
        if self.op.mode == 'zeros':
            return torch.zeros_like(held[:, :, :1])
        place = mirrored(row, self.height, self.op.mode) - self._base
        return held[:, :, place : place + 1]


class _BlockRows:
    """State of a residual block: its sliding operations, and shortcut rows that wait for them."""

    def __init__(self, block: _Block, height: int) -> None:
        self.main = _stack(block.main, height)
        self.shortcut = None if block.shortcut is None else _SlidingRows(block.shortcut, height)
        self.rows = self.main[-1].rows
        self._waiting: list[Tensor] = []

    def push(self, rows: Tensor) -> Tensor | None:
        """As in ``_SlidingRows``."""
        ahead = rows if self.shortcut is None else self.shortcut.push(rows)
        if ahead is not None:
            self._waiting.append(ahead)
        out = _push(self.main, rows)
        if out is None:
            return None
        filled = 0
        while filled < out.shape[2]:
            first = self._waiting.pop(0)
            count = min(first.shape[2], out.shape[2] - filled)
            out[:, :, filled : filled + count] += first[:, :, :count]
            filled += count
            if count < first.shape[2]:
                self._waiting.insert(0, first[:, :, count:].clone())
        return out.relu_()


def _stack(parts: Sequence[FoldedConv | _Block], height: int) -> list:
    """Fresh states of consecutive operations on a map of ``height`` rows."""
    states: list[_SlidingRows | _BlockRows] = []
    for part in parts:
        if isinstance(part, _Block):
            states.append(_BlockRows(part, height))
        else:
            states.append(_SlidingRows(part, height))
        height = states[-1].rows
    return states


def _push(states: Sequence, rows: Tensor | None) -> Tensor | None:
    for state in states:
        if rows is None:
            return None
        rows = state.push(rows)
    return rows
