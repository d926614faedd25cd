"""Feature alignment: a deformable convolution steered by the predicted box.

Paper:    SipMask, https://arxiv.org/abs/2007.14772, section 3.1.
Origin:   JialeCao001/SipMask (MIT for this part); mmcv's ``DeformConv2d`` gives equal values.

Shapes:   B images, C channels, H x W cells of one pyramid level.
"""

import math

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmcv.ops import DeformConv2d
from mmcv.utils import ext_loader
from mmdet.utils import OptConfigType
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmrefine.fcos.head import GROUP_NORM
from mmrefine.layers import as_weights, without_autocast

_kernels = ext_loader.load_ext(
    '_ext', ['deform_conv_forward', 'deform_conv_backward_input', 'deform_conv_backward_parameters']
)

GROUPS = 4
KERNEL = 3


class FeatureAlign(BaseModule):
    """Resample class features along the sides of the predicted box, then normalise.

    Offsets are a linear map of the four distances, one set per deformable group and tap, and start
    at 0: an untrained layer is a plain 3x3 convolution.

    Args:
        channels: Channels C, in and out; divisible by 4, the number of deformable groups.
        bias: Add a bias after the deformable convolution (benchmark generation).
        norm_cfg: Norm before the ReLU, the one of the towers. Without it the original's checkpoints
            hold the unused parameters anyway.
    """

    def __init__(
        self, channels: int, bias: bool = False, norm_cfg: OptConfigType = GROUP_NORM
    ) -> None:
        super().__init__()
        self.conv_offset = nn.Conv2d(4, 2 * KERNEL**2 * GROUPS, 1, bias=False)
        self.conv_adaption = DeformConv2d(
            channels, channels, KERNEL, padding=1, deform_groups=GROUPS
        )
        self.adaption_bias = nn.Parameter(torch.zeros(channels)) if bias else None
        self.norm = build_norm_layer(norm_cfg, channels)[1] if norm_cfg else None

    def init_weights(self) -> None:
        """N(0, 0.01) for the convolution, 0 for the offsets."""
        nn.init.normal_(self.conv_adaption.weight, std=0.01)
        nn.init.zeros_(self.conv_offset.weight)

    def forward(self, features: Tensor, ltrb: Tensor) -> Tensor:
        """Tensor[B, C, H, W], distances Tensor[B, 4, H, W] in stride units -> Tensor[B, C, H, W].

        No gradient reaches ``ltrb``; the offset layer learns through the sampling positions. Runs
        outside of autocast: half precision would round the sampling positions.
        """
        with without_autocast(features.device):
            offset = self.conv_offset(as_weights(ltrb.detach(), self.conv_offset))  # (B, 72, H, W)
            weight = self.conv_adaption.weight
            precise = torch.promote_types(weight.dtype, torch.float32)  # the kernels have no half
            aligned = deform_conv(*(x.to(precise) for x in (features, offset, weight)))
            features = as_weights(aligned, self.conv_adaption)
            if self.adaption_bias is not None:
                features = features + self.adaption_bias[:, None, None]
            if self.norm is not None:
                features = self.norm(features)
            return F.relu(features)


def deform_conv(features: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    """mmcv's deformable 3x3 convolution with padding 1, visible to ``torch.compile``.

    ``mmcv.ops.DeformConv2d`` is opaque to compilers and tracers; these are its kernels as one
    operator with shape and gradient rules. Maps smaller than the kernel and any batch size are
    accepted.

    Features Tensor[B, C, H, W], float32 or float64, as the others; offsets Tensor[B, 72, H, W], per
    group and tap (dy, dx) in cells; weights Tensor[C, C, 3, 3] -> Tensor[B, C, H, W].
    """
    if torch.onnx.is_in_onnx_export():
        return _sampled(features, offset, weight)
    return _deform_conv(features, offset, weight)


def _sampled(features: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    """The same by one ``grid_sample`` a tap: opset 17 of ONNX has no deformable convolution."""
    batch, channels, height, width = features.shape
    maps = features.reshape(batch * GROUPS, channels // GROUPS, height, width)
    shifts = offset.reshape(batch * GROUPS, KERNEL**2, 2, height, width)
    rows = torch.arange(height, device=features.device)[:, None]
    columns = torch.arange(width, device=features.device)
    taps = []
    for tap in range(KERNEL**2):
        y = rows + tap // KERNEL - 1 + shifts[:, tap, 0]  # (B G, H, W)
        x = columns + tap % KERNEL - 1 + shifts[:, tap, 1]
        grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], dim=3)
        taps.append(F.grid_sample(maps, grid, align_corners=False))
    sampled = torch.stack(taps, dim=2)  # (B G, C / G, 9, H, W)
    sampled = sampled.reshape(batch, channels * KERNEL**2, height * width)
    product = weight.flatten(1) @ sampled  # (C, 9 C) (B, 9 C, H W)
    return product.reshape(batch, len(weight), height, width)


def _padded(*maps: Tensor) -> list[Tensor]:
    """Pad maps Tensor[B, *, H, W] with zeros to the side of the kernel, which mmcv demands."""
    height, width = maps[0].shape[2:]
    pad = (0, max(KERNEL - width, 0), 0, max(KERNEL - height, 0))
    return [F.pad(one, pad).contiguous() for one in maps]


def _settings(features: Tensor) -> dict[str, int]:
    """Arguments that all kernels share."""
    return {
        'kW': KERNEL, 'kH': KERNEL, 'dW': 1, 'dH': 1, 'padW': 1, 'padH': 1,
        'dilationW': 1, 'dilationH': 1, 'group': 1, 'deformable_group': GROUPS,
        # The kernels take slices of equal length of the batch.
        'im2col_step': math.gcd(len(features), 32),
    }  # fmt: skip


@torch.library.custom_op('mmrefine::deform_conv3x3', mutates_args=())
def _deform_conv(features: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    height, width = features.shape[2:]
    x, shifts = _padded(features, offset)
    output = x.new_empty(len(x), len(weight), *x.shape[2:])
    if len(x):
        columns, ones = x.new_empty(0), x.new_empty(0)  # scratch space, sized by the kernels
        weight = weight.contiguous()
        _kernels.deform_conv_forward(x, weight, shifts, output, columns, ones, **_settings(x))
    return output[..., :height, :width].contiguous()


@_deform_conv.register_fake
def _(features: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    return features.new_empty(len(features), len(weight), *features.shape[2:])


@torch.library.custom_op('mmrefine::deform_conv3x3_backward', mutates_args=())
def _deform_conv_backward(
    grad: Tensor, features: Tensor, offset: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    height, width = features.shape[2:]
    grad, x, shifts = _padded(grad, features, offset)
    weight = weight.contiguous()
    grad_x, grad_shifts, grad_weight = (torch.zeros_like(one) for one in (x, shifts, weight))
    if len(x):
        columns, ones = x.new_empty(0), x.new_empty(0)
        _kernels.deform_conv_backward_input(
            x, shifts, grad, grad_x, grad_shifts, weight, columns, **_settings(x)
        )
        _kernels.deform_conv_backward_parameters(
            x, shifts, grad, grad_weight, columns, ones, scale=1, **_settings(x)
        )
    grads = (one[..., :height, :width].contiguous() for one in (grad_x, grad_shifts))
    return *grads, grad_weight


@_deform_conv_backward.register_fake
def _(
    grad: Tensor, features: Tensor, offset: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        features.new_empty(features.shape),
        offset.new_empty(offset.shape),
        weight.new_empty(weight.shape),
    )


def _save(ctx: torch.autograd.function.FunctionCtx, inputs: tuple, output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple:
    return _deform_conv_backward(grad, *ctx.saved_tensors)


_deform_conv.register_autograd(_backward, setup_context=_save)
