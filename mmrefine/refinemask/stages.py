"""Semantic fusion stages: double the grid, halve the width, mix in fine-grained features.

Paper: RefineMask (CVPR 2021), section 3.2. Origin: ``SFMStage`` and ``SimpleSFMStage`` of the
authors' repository; parameter names are theirs, so that their weights load by identity.

Shapes: B images, N RoIs, C channels of the stage, S side of its grid, K classes, H, W of the
stride-4 map.
"""

import torch
import torch.nn.functional as F
from mmcv.cnn import build_upsample_layer
from mmdet.registry import MODELS
from mmengine.model import BaseModule, kaiming_init
from torch import Tensor, nn

from mmrefine.layers import (
    ClassLogits,
    point_roi_align,
    roi_align,
)


def build_upsampler(cfg: dict, channels: int) -> nn.Module:
    """Build a module that doubles the grid at constant width.

    Args:
        cfg: ``type`` is any upsampler mmcv builds: bilinear, nearest, deconv, pixel_shuffle,
            carafe. ``scale_factor`` is 2.
        channels: Width of input and output.

    Raises:
        ValueError: ``scale_factor`` is not 2.
    """
    cfg = dict(cfg)
    factor = cfg.pop('scale_factor', 2)
    if factor != 2:
        raise ValueError(
            f'upsample_cfg.scale_factor must be 2 (stages double the grid), got {factor}'
        )
    kind = cfg['type']
    if kind == 'bilinear':
        cfg.update(scale_factor=factor, align_corners=cfg.get('align_corners', False))
    elif kind == 'nearest':
        cfg.update(scale_factor=factor)
    elif kind == 'deconv':
        cfg.update(in_channels=channels, out_channels=channels, kernel_size=factor, stride=factor)
    elif kind == 'pixel_shuffle':
        cfg.setdefault('upsample_kernel', 3)
        cfg.update(in_channels=channels, out_channels=channels, scale_factor=factor)
    else:
        cfg.update(channels=channels, scale_factor=factor)
    return build_upsample_layer(cfg)


def resize_aligned(x: Tensor, size: int) -> Tensor:
    """Bilinear resize with aligned corners, the rule for masks and logits: Tensor[N, C, S, S] ->
    [N, C, size, size]."""
    return F.interpolate(x, size=(size, size), mode='bilinear', align_corners=True)


def double_features(x: Tensor) -> Tensor:
    """Bilinear x2, the rule for features: Tensor[N, C, S, S] -> [N, C, 2S, 2S]."""
    return F.interpolate(x, scale_factor=2, mode='bilinear', align_corners=False)


class FusionStage(BaseModule):
    """What both generations of the stage share: its layers and the fusion itself.

    Args:
        channels: C, width of the instance features.
        semantic_channels: Width of the semantic features of the whole image.
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
        return F.relu(self.semantic_transform_in(semantic), inplace=True).float()

    def fuse(self, parts: list[Tensor]) -> Tensor:
        """Fuse maps of one grid: each Tensor[N, *, S, S] -> Tensor[N, out_channels, S, S]."""
        fused = F.relu(self.fuse_conv[0](torch.cat(parts, dim=1)), inplace=True)
        fused = F.relu(self.fuse_conv[1](fused), inplace=True)
        return F.relu(self.fuse_transform_out(fused), inplace=True)


class SFMStage(FusionStage):
    """Stage of the published head: predicts, then fuses features with the instance and the semantic
    mask.

    Args:
        channels, semantic_channels, fusion_cfg, stride: As in ``FusionStage``.
        num_classes: K of the prediction; 1 is class-agnostic.
        next_channels: Width of what leaves, both masks included.
        upsample_cfg: See ``build_upsampler``.
        mask_use_sigmoid: Feed probabilities rather than logits of both masks.
    """

    def __init__(
        self,
        channels: int,
        semantic_channels: int,
        num_classes: int,
        next_channels: int,
        fusion_cfg: dict,
        upsample_cfg: dict,
        stride: int,
        mask_use_sigmoid: bool,
    ) -> None:
        super().__init__(channels, semantic_channels, 2, next_channels - 2, fusion_cfg, stride)
        self.mask_use_sigmoid = mask_use_sigmoid
        self.semantic_transform_out = nn.Conv2d(channels, channels, 1)
        self.instance_logits = ClassLogits(channels, num_classes)
        self.upsample = build_upsampler(upsample_cfg, next_channels - 2)

    def forward(
        self, x: Tensor, semantic_map: Tensor, semantic_mask: Tensor, rois: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Predict at S, hand features on at 2S.

        Args:
            x: Tensor[N, C, S, S].
            semantic_map: Tensor[B, C, H, W], from ``semantic_map``.
            semantic_mask: Tensor[B, 1, H, W], foreground map of the images (probabilities or
                logits).
            rois: Tensor[N, 5], pixels of the network input.
            labels: LongTensor[N].

        Returns:
            Logits Tensor[N, 1, S, S] and features Tensor[N, next_channels, 2S, 2S].
        """
        size, scale = x.shape[-1], 1 / self.stride
        pooled = roi_align(semantic_map, rois, size, scale).to(x.dtype)
        semantic = F.relu(self.semantic_transform_out(pooled), inplace=True)
        logits = self.instance_logits(x, labels)
        mask = logits.sigmoid() if self.mask_use_sigmoid else logits
        context = roi_align(semantic_mask, rois, size, scale).to(x.dtype)
        fused = self.fuse([x, semantic, mask, context])
        fused = F.relu(self.upsample(fused), inplace=True)
        masks = resize_aligned(torch.cat([mask, context], dim=1), 2 * size)
        return logits, torch.cat([fused, masks], dim=1)


class SimpleSFMStage(FusionStage):
    """Stage of the faster and better head: no semantic mask, features sampled at bin centres,
    resized last.

    Args:
        channels, semantic_channels, fusion_cfg, stride: As in ``FusionStage``.
        next_channels: Width of what leaves, the mask included.
        upsample_cfg: See ``build_upsampler``; None keeps the grid.
    """

    def __init__(
        self,
        channels: int,
        semantic_channels: int,
        next_channels: int,
        fusion_cfg: dict,
        upsample_cfg: dict | None,
        stride: int,
    ) -> None:
        super().__init__(channels, semantic_channels, 1, next_channels - 1, fusion_cfg, stride)
        self.upsample = (
            nn.Identity() if upsample_cfg is None else build_upsampler(upsample_cfg, next_channels)
        )

    def forward(self, x: Tensor, logits: Tensor, semantic_map: Tensor, rois: Tensor) -> Tensor:
        """Hand features on.

        Args:
            x: Tensor[N, C, S, S].
            logits: Tensor[N, 1, S, S], prediction of this stage.
            semantic_map: Tensor[B, C, H, W], from ``semantic_map``.
            rois: Tensor[N, 5], pixels of the network input.

        Returns:
            Tensor[N, next_channels, 2S, 2S], or at S without upsampling.
        """
        semantic = point_roi_align(semantic_map, rois, x.shape[-1], self.stride).to(x.dtype)
        mask = logits.sigmoid()
        fused = self.fuse([x, semantic, mask])
        return self.upsample(torch.cat([fused, mask], dim=1))
