"""Numeric precision of parts that autocast must leave alone.

One rule for all heads: such a part computes in the type of its weights, which is float32 under
autocast, float64 after ``model.double()`` and float16 after ``model.half()``. Boxes, scores and
losses are float32 or better.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn


def autocast_to(device: torch.device, dtype: str | torch.dtype) -> AbstractContextManager:
    """Context in which convolutions and products on ``device`` run in ``'bfloat16'`` or
    ``'float16'``; other types leave autocast as it is."""
    dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    return torch.autocast(_autocast_type(device), dtype) if dtype.itemsize == 2 else nullcontext()


def without_autocast(device: torch.device) -> torch.autocast:
    """Context in which autocast is off on ``device``; inputs keep their type."""
    return torch.autocast(_autocast_type(device), enabled=False)


def _autocast_type(device: torch.device) -> str:
    # ``torch.autocast`` refuses devices that compute nothing, such as ``meta``.
    known = torch.amp.is_autocast_available(device.type)
    return device.type if known else 'cpu'


def as_weights(features: Tensor, layer: nn.Conv2d) -> Tensor:
    """Cast features to the type of a layer's weights."""
    return features.to(layer.weight.dtype)
