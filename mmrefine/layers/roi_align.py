"""RoI pooling that a compiler can see: mmcv's compiled kernels registered as ``torch.library``
operators.

``mmcv.ops.roi_align`` is opaque to ``torch.compile``. Here the same kernels are called through one
custom operator with shape and gradient rules, in fp32 whatever autocast says (fp16 resolves RoI
coordinates no better than 0.5 pixels).
"""

from typing import Any

import torch
import torch.nn.functional as F
from mmcv.utils import ext_loader
from torch import Tensor

from .row_pooling import FEWEST_CHANNELS, pool_rows

_kernels = ext_loader.load_ext('_ext', ['roi_align_forward', 'roi_align_backward'])
_AVERAGE = 1


def _settings(size: int, spatial_scale: float, sampling_ratio: int) -> dict[str, Any]:
    """Arguments that both kernels share."""
    return dict(
        aligned_height=size,
        aligned_width=size,
        spatial_scale=spatial_scale,
        sampling_ratio=sampling_ratio,
        pool_mode=_AVERAGE,
        aligned=True,
    )


@torch.library.custom_op('mmrefine::roi_align', mutates_args=())
def _roi_align(
    features: Tensor, rois: Tensor, size: int, spatial_scale: float, sampling_ratio: int
) -> Tensor:
    geometry = size, spatial_scale, sampling_ratio
    if features.device.type == 'cpu' and features.shape[1] >= FEWEST_CHANNELS:
        return pool_rows(features, rois, *geometry)
    pooled = features.new_zeros((rois.shape[0], features.shape[1], size, size))
    if pooled.numel():
        unused = features.new_zeros(0)
        _kernels.roi_align_forward(
            features.contiguous(), rois.contiguous(), pooled, unused, unused, **_settings(*geometry)
        )
    return pooled


@_roi_align.register_fake
def _(
    features: Tensor, rois: Tensor, size: int, spatial_scale: float, sampling_ratio: int
) -> Tensor:
    return features.new_empty((rois.shape[0], features.shape[1], size, size))


@torch.library.custom_op('mmrefine::roi_align_backward', mutates_args=())
def _roi_align_backward(
    grad: Tensor,
    rois: Tensor,
    shape: list[int],
    size: int,
    spatial_scale: float,
    sampling_ratio: int,
) -> Tensor:
    grad_features = grad.new_zeros(shape)
    if grad.numel():
        unused = grad.new_zeros(0)
        _kernels.roi_align_backward(
            grad.contiguous(),
            rois.contiguous(),
            unused,
            unused,
            grad_features,
            **_settings(size, spatial_scale, sampling_ratio),
        )
    return grad_features


@_roi_align_backward.register_fake
def _(
    grad: Tensor,
    rois: Tensor,
    shape: list[int],
    size: int,
    spatial_scale: float,
    sampling_ratio: int,
) -> Tensor:
    return grad.new_empty(shape)


def _setup_context(ctx: torch.autograd.function.FunctionCtx, inputs: tuple, output: Tensor) -> None:
    features, rois, *ctx.geometry = inputs
    ctx.shape = list(features.shape)
    ctx.save_for_backward(rois)


def _backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple:
    (rois,) = ctx.saved_tensors
    return _roi_align_backward(grad, rois, ctx.shape, *ctx.geometry), None, None, None, None


_roi_align.register_autograd(_backward, setup_context=_setup_context)


def roi_align(
    features: Tensor, rois: Tensor, size: int, spatial_scale: float, sampling_ratio: int = 0
) -> Tensor:
    """Average-pool every RoI to a square grid (RoIAlign, aligned).

    Args:
        features: Tensor[B, C, H, W] of any floating dtype.
        rois: Tensor[N, 5] of (image index, x1, y1, x2, y2) in pixels of the network input.
        size: Side of the output grid.
        spatial_scale: Feature cells per pixel, e.g. 1/4.
        sampling_ratio: Samples per bin and axis; 0 adapts to the size of the RoI.

    Returns:
        Tensor[N, C, size, size] in fp32. RoIs without area give zeros when ``sampling_ratio`` is 0.
    """
    return _roi_align(features.float(), rois.float(), size, spatial_scale, sampling_ratio)


def point_roi_align(features: Tensor, rois: Tensor, size: int, stride: int) -> Tensor:
    """Sample each bin of a RoI once, at its centre, with zeros outside the map.

    This is PointRend's SimpleRoIAlign. It equals RoIAlign with one sample per bin, except that
    RoIAlign repeats border cells half a cell outwards; a ring of zeros around the map removes that
    difference. RoIs may come in any order.

    Arguments and result as in ``roi_align``, with ``stride`` pixels per feature cell.
    """
    shift = rois.new_tensor([0, stride, stride, stride, stride], dtype=torch.float32)
    # the ring of zeros moves the map by one cell, ``stride`` pixels
    return roi_align(
        F.pad(features, (1, 1, 1, 1)), rois.float() + shift, size, 1 / stride, sampling_ratio=1
    )
