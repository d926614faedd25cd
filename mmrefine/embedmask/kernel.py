"""Distance of every pixel embedding to every proposal embedding, as one matrix product.

Paper: EmbedMask, https://arxiv.org/abs/1912.01954, section 3.2.

A pixel p with embedding e belongs to a proposal with embedding q and margin s with probability

    exp(-d(p)),   d(p) = sum_i s_i (e_i(p) - q_i)^2.

Everything here works with the exponent d: the loss then needs no probability that has been rounded
to 0 or 1.

Shapes: K proposals, D embedding dimensions, M margin dimensions (1 or D), H x W map, N = H * W.
"""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from mmrefine.fcos import make_grid
from mmrefine.layers import without_autocast

COORDINATE_UNIT = 100.0


def add_coordinates(spatial: Tensor, stride: int, position: Tensor | float) -> Tensor:
    """Add the scaled image position of every cell to a map Tensor[B, 2, H, W] of that stride."""
    height, width = spatial.shape[-2:]
    grid = make_grid([(height, width)], [stride], device=spatial.device)
    coordinates = grid.points.t().unflatten(1, (height, width))  # (2, H, W)
    return spatial + position * coordinates / COORDINATE_UNIT


@contextlib.contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Plain fp32 inside: no autocast, and no TF32 products on NVIDIA devices.

    Embeddings hold image coordinates / 100 up to 13, differences of one pixel count, and they are
    squared: ten mantissa bits are not enough for that.
    """
    with without_autocast(device):
        if device.type != 'cuda':
            yield
            return
        allowed = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = False
        try:
            yield
        finally:
            torch.backends.cuda.matmul.allow_tf32 = allowed


def mask_exponent(pixels: Tensor, embeds: Tensor, margins: Tensor) -> Tensor:
    """Weighted squared distance of every pixel embedding to every proposal embedding.

    The square is expanded, so that one matrix product replaces a K x D x H x W broadcast: ``d = s .
    e^2 - 2 (s q) . e + s . q^2``, after the mean embedding has been subtracted from both (it
    cancels in the difference, and smaller squares round less).

    Args:
        pixels: Tensor[D, H, W].
        embeds: Tensor[K, D].
        margins: Tensor[K, M], positive; M = 1 weights all dimensions alike.

    Returns:
        Tensor[K, H, W] in fp32. Rounding can leave values slightly below 0: clamp before use.
    """
    dims = pixels.shape[0]
    if embeds.shape[1] != dims or margins.shape[1] not in (1, dims):
        raise ValueError(
            f'{dims} pixel dimensions, {embeds.shape[1]} proposal dimensions and '
            f'{margins.shape[1]} margins: the first two must be equal, the margins as many or 1'
        )
    with full_precision(pixels.device):
        flat = pixels.float().flatten(1)  # (D, N)
        margins = margins.float().expand(-1, dims)  # (K, D)
        exponent = _Exponent.apply(flat, embeds.float(), margins)  # (K, N)
        return exponent.unflatten(1, pixels.shape[1:])  # (K, H, W)


class _Exponent(torch.autograd.Function):
    """Tensor[D, N], Tensor[K, D], Tensor[K, D] -> Tensor[K, N].

    Written out because autograd would keep both halves of the stacked product alive and run the
    backward products with whatever precision is set globally at that time.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, pixels: Tensor, embeds: Tensor, margins: Tensor) -> Tensor:
        mean = (
            pixels.mean(dim=1, keepdim=True)
            if pixels.shape[1]
            else pixels.new_zeros(len(pixels), 1)
        )
        pixels, embeds = pixels - mean, embeds - mean.t()
        ctx.save_for_backward(pixels, embeds, margins)
        weights = torch.cat((margins, -2 * margins * embeds), dim=1)  # (K, 2D)
        constant = (margins * embeds.square()).sum(dim=1, keepdim=True)  # (K, 1)
        return torch.addmm(constant, weights, torch.cat((pixels.square(), pixels)))

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pixels, embeds, margins = ctx.saved_tensors
        dims = len(pixels)
        with full_precision(grad.device):
            # Sums over the pixels of g, g e and g e^2, with g the gradient of d.
            total = grad.sum(dim=1, keepdim=True)  # (K, 1)
            first = grad @ pixels.t()  # (K, D)
            second = grad @ pixels.square().t()  # (K, D)
            grad_margins = second - 2 * embeds * first + embeds.square() * total
            grad_embeds = 2 * margins * (embeds * total - first)
            back = torch.cat((margins, margins * embeds), dim=1).t() @ grad  # (2D, N)
            grad_pixels = 2 * (pixels * back[:dims] - back[dims:])
        return grad_pixels, grad_embeds, grad_margins


def box_regions(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Mark the cells whose index lies in a box: x1 <= column < x2 and y1 <= row < y2.

    Boxes Tensor[K, 4] in cells, any real numbers -> BoolTensor[K, H, W] for ``size`` (H, W).
    """
    height, width = size
    x1, y1, x2, y2 = boxes[:, :, None].unbind(1)  # (K, 1) each
    xs = torch.arange(width, device=boxes.device, dtype=boxes.dtype)
    ys = torch.arange(height, device=boxes.device, dtype=boxes.dtype)
    columns = (xs >= x1) & (xs < x2)  # (K, W)
    rows = (ys >= y1) & (ys < y2)  # (K, H)
    return rows[:, :, None] & columns[:, None]


def padded_boxes(boxes: Tensor, size: tuple[int, int], ratio: float = 0.1) -> Tensor:
    """Grow boxes Tensor[K, 4] in cells by a share of their size and one cell on each side, and keep
    them on a map of ``size`` (H, W): x1 >= 0, y1 >= 0, x2 <= W - 1, y2 <= H - 1."""
    height, width = size
    sides = boxes[:, 2:] - boxes[:, :2]
    low = (boxes[:, :2] - ratio * sides - 1).clamp(min=0)
    high = boxes[:, 2:] + ratio * sides + 1
    return torch.cat((low, high.minimum(high.new_tensor((width - 1, height - 1)))), dim=1)


def haloed_boxes(boxes: Tensor, halo: int, truncate: bool) -> Tensor:
    """Grow boxes Tensor[K, 4] in cells by a halo on each side; they may leave the map.

    Parity: the v3 original cuts the corners down to integers first (``truncate``).
    """
    boxes = boxes.int().to(boxes.dtype) if truncate else boxes  # ONNX has no trunc
    return torch.cat((boxes[:, :2] - halo, boxes[:, 2:] + halo), dim=1)
