"""Joining maps along their channels."""

from collections.abc import Sequence

import torch
from torch import Tensor


def join_channels(maps: Sequence[Tensor]) -> Tensor:
    """``torch.cat`` of Tensor[N, *, H, W] along the channels, in the memory format of the first.

    Of a map with a single channel nobody can tell the format, and with one of those ``torch.cat``
    falls back to channels first: every layer after it would run in the slower order.
    """
    if maps[0].is_contiguous(memory_format=torch.channels_last):
        return torch.cat([x.permute(0, 2, 3, 1) for x in maps], dim=-1).permute(0, 3, 1, 2)
    return torch.cat(list(maps), dim=1)
