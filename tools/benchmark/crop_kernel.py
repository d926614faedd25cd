"""SipMask's crop operators at the speed of the original's kernels, for CPU tensors.

The original has CUDA kernels only; ``crop_split.cpp`` holds their rule as loops. It is compiled at
first use, which takes half a minute. ``crop_split.py`` is the same rule in plain torch.
"""

from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.utils.cpp_extension import load


@cache
def _library() -> ModuleType:
    source = Path(__file__).with_name('crop_split.cpp')
    return load('mmrefine_crop_split', [str(source)], extra_cflags=['-O3'])


class _CropSplit(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor, boxes: Tensor) -> Tensor:
        ctx.save_for_backward(boxes)
        ctx.k = round(len(maps) ** 0.5)
        return _library().forward(maps.contiguous(), boxes)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (boxes,) = ctx.saved_tensors
        return _library().backward(grad.contiguous(), boxes, ctx.k), None


def crop_split(maps: Tensor, boxes: Tensor) -> Tensor:
    """float32 Tensor[k * k, H, W, N], boxes Tensor[N, 4] in map pixels -> Tensor[H, W, N].

    0 outside the box; differentiable in ``maps``.
    """
    return _CropSplit.apply(maps, boxes.float().contiguous())


def crop_split_gt(masks: Tensor, boxes: Tensor) -> Tensor:
    """Keep what lies inside the box: float32 Tensor[H, W, N], boxes Tensor[N, 4] -> the same."""
    return crop_split(masks[None], boxes)
