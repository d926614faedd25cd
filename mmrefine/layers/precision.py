"""Numeric precision of parts that autocast must leave alone.

One rule for all heads: such a part computes in the type of its weights, which is float32 under
autocast, float64 after ``model.double()`` and float16 after ``model.half()``. Boxes, scores and
losses are float32 or better.
"""

import torch
from torch import Tensor, nn


def without_autocast(device: torch.device) -> torch.autocast:
    """Context in which autocast is off on ``device``; inputs keep their type.

    ``torch.autocast`` refuses devices that compute nothing, such as ``meta``; there the context
    does nothing.
    """
    return torch.autocast('cpu' if device.type == 'meta' else device.type, enabled=False)


def as_weights(features: Tensor, layer: nn.Conv2d) -> Tensor:
    """Cast features to the type of a layer's weights."""
    return features.to(layer.weight.dtype)
