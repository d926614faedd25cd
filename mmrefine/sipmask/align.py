"""Feature alignment: a deformable convolution steered by the predicted box.

Paper:    SipMask, https://arxiv.org/abs/2007.14772, section 3.1.
Origin:   JialeCao001/SipMask (MIT for this part); mmcv's ``DeformConv2d`` gives equal values.

Shapes:   B images, C channels, H x W cells of one pyramid level.
"""

import math

import torch
import torch.nn.functional as F
from mmcv.ops import DeformConv2d, deform_conv2d
from mmengine.model import BaseModule
from torch import Tensor, nn

GROUPS = 4
KERNEL = 3


class FeatureAlign(BaseModule):
    """Resample class features along the sides of the predicted box, then normalise.

    Offsets are a linear map of the four distances, one set per deformable group and tap, and start
    at 0: an untrained layer is a plain 3x3 convolution.

    Args:
        channels: Channels C, in and out; divisible by 4 (deformable groups) and, with the norm, 32.
        bias: Add a bias after the deformable convolution (benchmark generation).
        norm: Group norm before the ReLU. Parity: the original switches it off together with the
            norm of the towers; its checkpoints hold the unused parameters anyway.
    """

    def __init__(self, channels: int, bias: bool = False, norm: bool = True) -> None:
        super().__init__()
        self.conv_offset = nn.Conv2d(4, 2 * KERNEL**2 * GROUPS, 1, bias=False)
        self.conv_adaption = DeformConv2d(
            channels, channels, KERNEL, padding=1, deform_groups=GROUPS
        )
        self.adaption_bias = nn.Parameter(torch.zeros(channels)) if bias else None
        self.norm = nn.GroupNorm(32, channels) if norm else None

    def init_weights(self) -> None:
        """N(0, 0.01) for the convolution, 0 for the offsets."""
        nn.init.normal_(self.conv_adaption.weight, std=0.01)
        nn.init.zeros_(self.conv_offset.weight)

    def forward(self, features: Tensor, ltrb: Tensor) -> Tensor:
        """Tensor[B, C, H, W], distances Tensor[B, 4, H, W] in stride units -> Tensor[B, C, H, W].

        No gradient reaches ``ltrb``; the offset layer learns through the sampling positions. Runs
        in float32 under autocast: half precision would round the sampling positions.
        """
        with torch.autocast(features.device.type, enabled=False):
            offset = self.conv_offset(ltrb.detach().float())
            deform = deform_conv if torch.compiler.is_compiling() else _deform
            features = deform(features.float(), offset, self.conv_adaption.weight)
            if self.adaption_bias is not None:
                features = features + self.adaption_bias[:, None, None]
            if self.norm is not None:
                features = self.norm(features)
            return F.relu(features)


@torch.library.custom_op('mmrefine::deform_conv3x3', mutates_args=())
def deform_conv(features: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    """The layer's convolution as one operator, since a compiler cannot look into mmcv's.

    Tensor[B, C, H, W], Tensor[B, 72, H, W], Tensor[C, C, 3, 3] -> Tensor[B, C, H, W].
    """
    return _deform(features, offset, weight)


@deform_conv.register_fake
def _(features: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    return torch.empty_like(features, memory_format=torch.contiguous_format)


@torch.library.custom_op('mmrefine::deform_conv3x3_backward', mutates_args=())
def _deform_grads(
    grad: Tensor, features: Tensor, offset: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    with torch.enable_grad():
        inputs = [t.detach().requires_grad_() for t in (features, offset, weight)]
        output = _deform(*inputs)
    grads = torch.autograd.grad(output, inputs, grad)
    return grads[0].contiguous(), grads[1].contiguous(), grads[2].contiguous()


@_deform_grads.register_fake
def _(
    grad: Tensor, features: Tensor, offset: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return tuple(
        torch.empty_like(t, memory_format=torch.contiguous_format)
        for t in (features, offset, weight)
    )


def _save(ctx: torch.autograd.function.FunctionCtx, inputs: tuple, output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple:
    return _deform_grads(grad, *ctx.saved_tensors)


deform_conv.register_autograd(_backward, setup_context=_save)


def _deform(features: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    """mmcv's function for any map and batch; alone it refuses maps smaller than the kernel."""
    height, width = features.shape[-2:]
    pad = (0, max(KERNEL - width, 0), 0, max(KERNEL - height, 0))
    features, offset = F.pad(features, pad).contiguous(), F.pad(offset, pad).contiguous()
    images_at_once = math.gcd(len(features), 32)
    output = deform_conv2d(features, offset, weight, 1, 1, 1, 1, GROUPS, False, images_at_once)
    return output[..., :height, :width].contiguous()
