"""RoIAlign on a CPU as weighted sums of rows: several times as fast as mmcv's scalar kernel.

A pooled cell is a weighted sum of map cells, with the same weights for all channels. Where the
channels of a cell lie side by side that is what ``embedding_bag`` computes, with vector
instructions; the usual kernel goes through the samples once per channel.

Shapes: B images, C channels, H x W map, N RoIs, S side of the output grid.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# Building the weights costs as much as pooling a few dozen channels.
FEWEST_CHANNELS = 32
# Weights held at a time; bounds the memory of RoIs with many samples.
_WEIGHTS = 1 << 23


def pool_rows(
    features: Tensor, rois: Tensor, size: int, spatial_scale: float, sampling_ratio: int
) -> Tensor:
    """Average-pool every RoI to a square grid; arguments and values as in ``roi_align``.

    RoIs without area, inverted or not finite give zeros when ``sampling_ratio`` is 0.
    """
    channels, height, width = features.shape[1:]
    rows = features.permute(0, 2, 3, 1).reshape(-1, channels)  # (B * H * W, C)
    image, low = rois[:, 0].long(), rois[:, 1:3] * spatial_scale - 0.5
    extent = rois[:, 3:] * spatial_scale - 0.5 - low
    samples = (extent / size).ceil() if sampling_ratio <= 0 else extent * 0 + sampling_ratio
    samples = samples.nan_to_num(0, 0, 0).clamp(min=0).long()  # (N, 2), x and y
    pooled = features.new_zeros((len(rois), size * size, channels))
    # RoIs with equal numbers of samples have weights of one shape and are pooled together
    pairs, pair = samples.unique(dim=0, return_inverse=True)
    for index, (nx, ny) in enumerate(pairs.tolist()):
        if nx == 0 or ny == 0:
            continue
        taps = 4 * nx * ny
        alike = (pair == index).nonzero()[:, 0]
        for mine in alike.split(max(1, _WEIGHTS // (taps * size * size))):
            columns, column_weights = _axis(low[mine, 0], extent[mine, 0], nx, size, width)
            lines, line_weights = _axis(low[mine, 1], extent[mine, 1], ny, size, height)
            lines = (image[mine] * height)[:, None, None] + lines
            # (n, S, S, 2 ny, 2 nx): for every cell of the output, map cells and their weights
            cells = (lines * width)[:, :, None, :, None] + columns[:, None, :, None, :]
            weights = line_weights[:, :, None, :, None] * column_weights[:, None, :, None, :]
            sums = F.embedding_bag(  # (n * S * S, C)
                cells.reshape(-1, taps),
                rows,
                mode='sum',
                per_sample_weights=weights.reshape(-1, taps),
            )
            pooled[mine] = sums.view(len(mine), size * size, channels)
    # (N, S * S, C) -> (N, C, S, S), in the layout of mmcv's kernel
    return pooled.transpose(1, 2).reshape(len(rois), channels, size, size).contiguous()


def _axis(
    low: Tensor, extent: Tensor, samples: int, size: int, cells: int
) -> tuple[Tensor, Tensor]:
    """Cells that each bin of an axis reads, and their weights: Tensor[n, S, 2 samples] each.

    A sample lies between two cells; outside the map by more than one cell it is worth nothing, by
    less it takes the border.
    """
    step = (extent / size)[:, None, None]
    bins = torch.arange(size, device=low.device)[:, None]
    inner = (torch.arange(samples, device=low.device) + 0.5) / samples
    at = low[:, None, None] + (bins + inner) * step  # (n, S, samples), in cells
    weight = ((at >= -1) & (at <= cells)) / samples
    at = at.clamp(0, cells - 1)
    first = at.long()
    part = at - first
    second = (first + 1).clamp(max=cells - 1)
    index = torch.stack([first, second], -1).flatten(2)  # (n, S, 2 samples)
    return index, torch.stack([(1 - part) * weight, part * weight], -1).flatten(2)
