"""Semantic fusion stages: double the grid, halve the width, mix in fine-grained features.

Paper: RefineMask (CVPR 2021), section 3.2. Origin: ``SFMStage``, ``SimpleSFMStage`` and the fusion
blocks of the authors' ``refine_mask_head.py``; parameter names are theirs, so that their weights
load by identity.

Shapes: B images, N RoIs, C channels of the stage, S side of its grid, D channels and H, W size of
the semantic map.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule, build_upsample_layer
from mmdet.registry import MODELS
from mmengine.model import BaseModule, kaiming_init
from torch import Tensor, nn

from mmrefine.layers import ClassLogits, point_roi_align, roi_align


def plan_classes(
    stage_num_classes: int | Sequence[int | None], num_classes: int | None, stages: int
) -> tuple[list[int], int]:
    """Number of classes of each stage, and of the detector.

    ``stage_num_classes`` is one number for all stages or one per stage; 1 is class-agnostic, None
    follows ``num_classes``, by default its largest entry.
    """
    if isinstance(stage_num_classes, int):
        stage_num_classes = [stage_num_classes] * stages
    if len(stage_num_classes) != stages:
        raise ValueError(
            f'stage_num_classes has {len(stage_num_classes)} entries for {stages} stages: give '
            'one per stage, or one number'
        )
    if num_classes is None:
        num_classes = max((k for k in stage_num_classes if k is not None), default=80)
    plan = [num_classes if k is None else k for k in stage_num_classes]
    if not set(plan) <= {1, num_classes}:
        raise ValueError(
            f'stage_num_classes {list(stage_num_classes)} does not fit num_classes={num_classes} '
            'of the box head: '
            f'each entry must be {num_classes} (or None) or 1 (class-agnostic)'
        )
    return plan, num_classes


@MODELS.register_module()
class MultiBranchFusion(BaseModule):
    """Sum 3x3 convolutions of several dilations and merge them by a 1x1 convolution without
    activation.

    A norm layer follows every convolution; none (the published weights) uses a bias instead.
    """

    def __init__(
        self,
        channels: int,
        dilations: Sequence[int] = (1, 3, 5),
        conv_cfg: dict | None = None,
        norm_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if not dilations:
            raise ValueError('dilations must name at least one branch, e.g. (1, 3, 5)')
        layers = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg)
        self.branches = [f'dilation_conv_{i + 1}' for i in range(len(dilations))]
        for name, dilation in zip(self.branches, dilations):
            conv = ConvModule(channels, channels, 3, padding=dilation, dilation=dilation, **layers)
            self.add_module(name, conv)
        self.merge_conv = ConvModule(channels, channels, 1, act_cfg=None, **layers)

    def summed_branches(self, x: Tensor) -> Tensor:
        """Tensor[N, C, S, S] -> Tensor[N, C, S, S]."""
        # one after the other: only one branch and the sum are held at a time
        total = getattr(self, self.branches[0])(x)
        for name in self.branches[1:]:
            total = total + getattr(self, name)(x)
        return total

    def forward(self, x: Tensor) -> Tensor:
        """Tensor[N, C, S, S] -> Tensor[N, C, S, S]."""
        return self.merge_conv(self.summed_branches(x))


@MODELS.register_module()
class MultiBranchFusionAvg(MultiBranchFusion):
    """``MultiBranchFusion`` with the spatial mean of the input as one more branch."""

    def forward(self, x: Tensor) -> Tensor:
        """Tensor[N, C, S, S] -> Tensor[N, C, S, S]."""
        mean = x.mean((2, 3), keepdim=True)  # (N, C, 1, 1), added everywhere
        return self.merge_conv(self.summed_branches(x) + mean)


def build_upsampler(cfg: dict, channels: int) -> nn.Module:
    """Build a module that doubles the grid at constant width.

    ``cfg['type']`` is any upsampler mmcv builds: bilinear, nearest, deconv, pixel_shuffle, carafe;
    its ``scale_factor`` must be 2.
    """
    cfg = dict(cfg)
    factor = cfg.pop('scale_factor', 2)
    if factor != 2:
        raise ValueError(
            f'upsample_cfg.scale_factor must be 2 (stages double the grid), got {factor}'
        )
    kind = cfg['type']
    if kind == 'deconv':
        # kernel equal to the stride: every output cell is written once
        cfg.update(in_channels=channels, out_channels=channels, kernel_size=factor, stride=factor)
        return build_upsample_layer(cfg)
    if kind == 'bilinear':
        cfg.setdefault('align_corners', False)
    elif kind == 'pixel_shuffle':
        cfg.setdefault('upsample_kernel', 3)
        cfg.update(in_channels=channels, out_channels=channels)
    elif kind != 'nearest':
        cfg.update(channels=channels)
    return build_upsample_layer(dict(cfg, scale_factor=factor))


def resize_aligned(x: Tensor, size: int) -> Tensor:
    """Bilinear resize with aligned corners, the rule for masks and logits: Tensor[N, C, S, S] ->
    [N, C, size, size]."""
    return F.interpolate(x, size=(size, size), mode='bilinear', align_corners=True)


def double_features(x: Tensor) -> Tensor:
    """Bilinear x2, the rule for features: Tensor[N, C, S, S] -> [N, C, 2S, 2S]."""
    return F.interpolate(x, scale_factor=2, mode='bilinear', align_corners=False)


class FusionStage(BaseModule):
    """Layers and fusion that both generations of the stage share.

    Args:
        channels, semantic_channels: C and D, widths of instance features and of the semantic map.
        mask_channels: Mask maps that join the fusion input.
        out_channels: Width of the fused features that leave, masks not counted.
        fusion_cfg: Fusion block, without ``channels``.
        stride: Pixels per cell of the semantic map.
    """

    def __init__(
        self,
        channels: int,
        semantic_channels: int,
        mask_channels: int,
        out_channels: int,
        fusion_cfg: dict,
        stride: int,
    ) -> None:
        super().__init__()
        if out_channels < 1:
            raise ValueError(
                f'a stage of {channels} channels leaves {out_channels} for features after the '
                'masks: widen conv_out_channels_instance or use fewer stages'
            )
        self.stride = stride
        self.semantic_transform_in = nn.Conv2d(semantic_channels, channels, 1)
        reduce = nn.Conv2d(2 * channels + mask_channels, channels, 1)
        block = MODELS.build(dict(fusion_cfg, channels=channels))
        # indices 0 and 1 hold parameters under the names of the published weights
        self.fuse_conv = nn.Sequential(reduce, block)
        self.fuse_transform_out = nn.Conv2d(channels, out_channels, 1)

    def init_weights(self) -> None:
        """Kaiming normal (fan out), bias 0, as published: mmengine leaves plain convolutions
        alone."""
        super().init_weights()
        for module in self.modules():
            if type(module) is nn.Conv2d:
                kaiming_init(module)

    def semantic_map(self, semantic: Tensor) -> Tensor:
        """Adapt the semantic features: Tensor[B, D, H, W] -> fp32 Tensor[B, C, H, W]."""
        # fp32 once for the whole image rather than before the pooling of every chunk of RoIs
        return F.relu(self.semantic_transform_in(semantic), inplace=True).float()

    def fuse(self, parts: list[Tensor]) -> Tensor:
        """Fuse maps of one grid: each Tensor[N, *, S, S] -> Tensor[N, out_channels, S, S]."""
        reduce, block = self.fuse_conv
        # A 1x1 convolution of joined maps is the sum of one per map, in the order of the weights:
        # training then keeps no second copy of the maps.
        weights = reduce.weight.split([part.shape[1] for part in parts], dim=1)
        fused = F.conv2d(parts[0], weights[0], reduce.bias)  # (N, C, S, S)
        for part, weight in zip(parts[1:], weights[1:]):
            fused += F.conv2d(part, weight)
        fused = F.relu(block(F.relu(fused, inplace=True)), inplace=True)
        return F.relu(self.fuse_transform_out(fused), inplace=True)


class SFMStage(FusionStage):
    """Stage of the published head: fuses features with the instance and the semantic mask.

    Args:
        channels: C.
        num_classes: Classes of ``instance_logits``, the layer of the stage's prediction.
        next_channels: Width of what leaves, both masks included.
        upsample_cfg: See ``build_upsampler``.
        **shared: Other arguments of ``FusionStage``.
    """

    def __init__(
        self, channels: int, num_classes: int, next_channels: int, upsample_cfg: dict, **shared: Any
    ) -> None:
        super().__init__(channels, mask_channels=2, out_channels=next_channels - 2, **shared)
        self.semantic_transform_out = nn.Conv2d(channels, channels, 1)
        self.instance_logits = ClassLogits(channels, num_classes)
        self.upsample = build_upsampler(upsample_cfg, next_channels - 2)

    def forward(
        self,
        x: Tensor,
        mask: Tensor,
        semantic_map: Tensor,
        semantic_mask: Tensor | None,
        rois: Tensor,
    ) -> Tensor:
        """Fuse at S and hand on at 2S, Tensor[N, next_channels, 2S, 2S].

        Args:
            x: Tensor[N, C, S, S].
            mask: Tensor[N, 1, S, S], this stage's prediction (probabilities or logits).
            semantic_map: Tensor[B, C, H, W], from ``semantic_map``.
            semantic_mask: Tensor[B, 1, H, W], foreground of the images (probabilities or logits).
            rois: Tensor[N, 5], pixels of the network input.
        """
        size, scale = x.shape[-1], 1 / self.stride
        pooled = roi_align(semantic_map, rois, size, scale).to(x.dtype)  # (N, C, S, S)
        semantic = F.relu(self.semantic_transform_out(pooled), inplace=True)
        context = roi_align(semantic_mask, rois, size, scale).to(x.dtype)  # (N, 1, S, S)
        fused = self.fuse([x, semantic, mask, context])  # (N, next - 2, S, S)
        fused = self.upsample(fused)  # (N, next - 2, 2S, 2S)
        if not isinstance(self.upsample, nn.Upsample):  # which leaves nothing negative
            fused = F.relu(fused, inplace=True)
        # Parity: masks are resized with aligned corners, features without
        masks = resize_aligned(torch.cat([mask, context], dim=1), 2 * size)  # (N, 2, 2S, 2S)
        return torch.cat([fused, masks], dim=1)


class SimpleSFMStage(FusionStage):
    """Stage of the faster and better head: no semantic mask, features sampled at bin centres,
    resized last.

    Args:
        next_channels: Width of what leaves, the mask included.
        upsample_cfg: See ``build_upsampler``; None keeps the grid.
        **shared: Other arguments of ``FusionStage``.
    """

    def __init__(self, next_channels: int, upsample_cfg: dict | None, **shared: Any) -> None:
        super().__init__(mask_channels=1, out_channels=next_channels - 1, **shared)
        self.upsample = (
            nn.Identity() if upsample_cfg is None else build_upsampler(upsample_cfg, next_channels)
        )

    def forward(
        self,
        x: Tensor,
        mask: Tensor,
        semantic_map: Tensor,
        semantic_mask: Tensor | None,
        rois: Tensor,
    ) -> Tensor:
        """As in ``SFMStage`` without ``semantic_mask``; at S if there is no upsampling."""
        semantic = point_roi_align(semantic_map, rois, x.shape[-1], self.stride).to(x.dtype)
        fused = self.fuse([x, semantic, mask])  # (N, next - 1, S, S)
        return self.upsample(torch.cat([fused, mask], dim=1))  # (N, next, 2S, 2S)
