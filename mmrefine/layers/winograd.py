"""3x3 convolutions of large maps with half the multiplications.

Winograd's minimal filtering F(4, 3) along the columns (Lavin and Gray, CVPR 2016, section 4): six
rows give four rows of results from six products per weight column instead of twelve. Along the rows
the convolution stays as it is, so that the rounding stays small: with 256 channels a root mean
square error of 1.6e-6 of the spread of the results, twice that of the plain one (channels last).

Shapes:   B images, C channels in, D out, H x W map.
"""

import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from torch import Tensor, nn

from .graphs import makes_graph

TILE = 4  # rows of results
TAPS = TILE + 2  # rows they are made from
STRIP = 2048  # columns of tiles whose six products stay in the cache together
LARGE = 4096  # cells of a map, below which the transforms cost more than they save
WIDE = 192  # channels, likewise
THREADS = 2  # beyond which nothing has been measured

# Whatever the defaults are where this is first imported.
CPU = dict(dtype=torch.float32, device='cpu')

# The points 0, 1, -1, 2, -2 and infinity.
ROWS_TO_POINTS = torch.tensor(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    **CPU,
)
KERNEL_TO_POINTS = torch.tensor(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
    **CPU,
)
POINTS_TO_ROWS = torch.tensor(
    [
        [1, 1, 1, 1, 1, 0],
        [0, 1, -1, 2, -2, 0],
        [0, 1, 1, 4, 4, 0],
        [0, 1, -1, 8, -8, 1],
    ],
    **CPU,
)
BIASED = 1  # the point that enters each of the four rows once


@MODELS.register_module()
class WinogradConv2d(nn.Conv2d):
    """``nn.Conv2d``, faster where it predicts on large maps with a CPU, and equal everywhere else.

    For ``conv_cfg=dict(type='WinogradConv2d')``; arguments and weights are those of ``nn.Conv2d``.
    The results differ by rounding.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Tensor[B, C, H, W] -> Tensor[B, D, H', W']."""
        if self._is_plain() and pays(x, self.weight):
            result = winograd_conv3x3(x, self.weight, self.bias)
            # as any convolution, since operators of mmcv take every map for channels first
            last = x.is_contiguous(memory_format=torch.channels_last)
            form = torch.channels_last if last else torch.contiguous_format
            return result.contiguous(memory_format=form)
        return super().forward(x)

    def _is_plain(self) -> bool:
        form = (self.kernel_size, self.stride, self.padding, self.dilation)
        return (
            form == ((3, 3), (1, 1), (1, 1), (1, 1))
            and self.groups == 1
            and self.padding_mode == 'zeros'
        )


def pays(x: Tensor, weight: Tensor) -> bool:
    """Whether ``winograd_conv3x3`` can stand in for the convolution, and saves time.

    Args:
        x: Tensor[B, C, H, W].
        weight: Tensor[D, C, 3, 3].
    """
    if makes_graph(x, weight):
        return False
    large = x.dim() == 4 and x.shape[-2] * x.shape[-1] >= LARGE and min(weight.shape[:2]) >= WIDE
    return (
        large
        and x.device.type == weight.device.type == 'cpu'
        and x.dtype == weight.dtype == torch.float32
        and torch.get_num_threads() <= THREADS
        and not torch.is_autocast_enabled('cpu')
    )


def winograd_conv3x3(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolution with stride 1 and one cell of zeros around the map; has no gradient.

    Args:
        x: Tensor[B, C, H, W] in fp32.
        weight: Tensor[D, C, 3, 3].
        bias: Tensor[D].

    Returns:
        Tensor[B, D, H, W], channels last.
    """
    batch, channels, height, width = x.shape
    kernels = _kernels(weight)
    maps = x.permute(0, 2, 3, 1).reshape(batch, height, width * channels)
    tiles = -(-height // TILE)
    result = x.new_empty(batch, tiles * TILE, width * len(weight))
    depth = min(tiles, max(1, STRIP // width))
    points = x.new_empty(TAPS, depth, width * channels)
    products = x.new_empty(TAPS, depth, width * len(weight))
    for image, rows in zip(maps, result):
        for first in range(0, tiles, depth):
            count = min(depth, tiles - first)
            strip = _strip(image, TILE * first - 1, TILE * count + 2)
            _to_points(strip, points[:, :count])
            for point, (columns, kernel) in enumerate(zip(points, kernels)):
                cells = columns[:count].view(1, count, width, channels).permute(0, 3, 1, 2)
                shift = bias if point == BIASED else None
                product = F.conv2d(cells, kernel, shift, padding=(0, 1))
                products[point, :count] = product.permute(0, 2, 3, 1).flatten(2)[0]
            _to_rows(products[:, :count], rows[TILE * first :][: TILE * count])
    return result[:, :height].view(batch, height, width, -1).permute(0, 3, 1, 2)


def _kernels(weight: Tensor) -> Tensor:
    """Tensor[D, C, 3, 3] -> six of Tensor[D, C, 1, 3], channels last."""
    out, channels = weight.shape[:2]
    columns = weight.permute(2, 0, 3, 1).reshape(3, -1)
    kernels = KERNEL_TO_POINTS @ columns
    return kernels.view(TAPS, out, 1, 3, channels).permute(0, 1, 4, 2, 3)


def _strip(image: Tensor, top: int, count: int) -> Tensor:
    """Rows ``top`` to ``top + count`` of Tensor[H, W * C], with zeros where there are none."""
    rows = image[max(top, 0) : top + count]
    above = max(-top, 0)
    missing = count - above - len(rows)
    return F.pad(rows, (0, 0, above, missing)) if above or missing else rows


def _to_points(strip: Tensor, out: Tensor) -> None:
    """Tensor[4 * T + 2, W * C] -> Tensor[6, T, W * C]."""
    windows = strip.unfold(0, TAPS, TILE).transpose(1, 2)
    torch.bmm(ROWS_TO_POINTS.expand(len(windows), -1, -1), windows, out=out.transpose(0, 1))


def _to_rows(products: Tensor, out: Tensor) -> None:
    """Tensor[6, T, W * D] -> Tensor[4 * T, W * D]."""
    windows = products.transpose(0, 1)
    tiles = out.unflatten(0, (-1, TILE))
    torch.bmm(POINTS_TO_ROWS.expand(len(windows), -1, -1), windows, out=tiles)
