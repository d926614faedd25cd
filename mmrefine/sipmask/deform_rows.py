"""Deformable convolution on a CPU as weighted sums of rows, for prediction.

Where the channels of a cell lie side by side, a sample of the map is a weighted sum of four rows,
which ``embedding_bag`` computes with vector instructions. Strips of the map keep the samples, nine
times the map, out of memory.

Shapes:   B images, C channels in, D out, G deformable groups, H x W map, T taps of the kernel.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmrefine.layers import conv1x1

STRIP = 2048  # cells whose samples exist at a time


def deform_conv_rows(features: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    """Deformable convolution with stride 1 that keeps the size of the map; has no gradient.

    Args:
        features: Tensor[B, C, H, W], fp32.
        offset: Tensor[B, 2 * G * T, H, W]; per group and tap (dy, dx) in cells.
        weight: Tensor[D, C, K, K] with odd K and T = K².

    Returns:
        Tensor[B, D, H, W], channels last.
    """
    batch, channels, height, width = features.shape
    taps = weight[0, 0].numel()
    groups = offset.shape[1] // (2 * taps)
    rows = features.permute(0, 2, 3, 1).reshape(-1, channels // groups)
    offsets = offset.permute(0, 2, 3, 1).reshape(-1, groups, taps, 2)
    # in the order of the samples: group, tap, channel of the group
    kernel = weight.unflatten(1, (groups, -1)).flatten(3).transpose(2, 3).reshape(len(weight), -1)
    kernel = kernel[:, :, None, None]
    result = features.new_empty(len(offsets), len(weight))
    for first in range(0, len(offsets), STRIP):
        strip = offsets[first : first + STRIP]
        cells = torch.arange(first, first + len(strip), device=strip.device)
        index, share = _corners(cells, strip, height, width)
        samples = F.embedding_bag(index, rows, mode='sum', per_sample_weights=share)
        samples = samples.view(1, len(strip), 1, -1).permute(0, 3, 1, 2)
        product = conv1x1(samples, kernel)
        result[first : first + STRIP] = product.permute(0, 2, 3, 1).view(len(strip), -1)
    return result.view(batch, height, width, -1).permute(0, 3, 1, 2)


def _corners(cells: Tensor, offsets: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """The four rows of every sample and their weights.

    Args:
        cells: LongTensor[n], places in the flattened maps.
        offsets: Tensor[n, G, T, 2].

    Returns:
        LongTensor[n * G * T, 4] and Tensor[n * G * T, 4]; weights of cells outside the map are 0.
    """
    groups, taps = offsets.shape[1:3]
    side = round(taps**0.5)
    tap = torch.arange(taps, device=cells.device)
    image = cells // (height * width)
    y, y_index, y_share = _axis(
        offsets[..., 0], cells // width % height, tap // side - side // 2, height
    )
    x, x_index, x_share = _axis(offsets[..., 1], cells % width, tap % side - side // 2, width)
    inside = (y > -1) & (y < height) & (x > -1) & (x < width)
    line = image[:, None, None, None] * height + y_index
    place = line[..., :, None] * width + x_index[..., None, :]
    row = place * groups + torch.arange(groups, device=cells.device)[:, None, None, None]
    share = y_share[..., :, None] * x_share[..., None, :]
    share = torch.where(inside[..., None, None], share, 0)
    return row.reshape(-1, 4), share.reshape(-1, 4)


def _axis(offset: Tensor, cell: Tensor, tap: Tensor, cells: int) -> tuple[Tensor, Tensor, Tensor]:
    """Position Tensor[n, G, T] on an axis, its two cells and their weights, [n, G, T, 2] each."""
    at = offset + (cell[:, None, None] + tap)
    low = at.floor()
    first = low.nan_to_num().clamp(-1, cells).long()
    index = torch.stack([first, first + 1], -1)
    part = at - low
    share = torch.stack([1 - part, part], -1) * ((index >= 0) & (index < cells))
    return at, index.clamp(0, cells - 1), share
