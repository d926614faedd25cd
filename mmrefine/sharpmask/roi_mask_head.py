"""Top-down refinement as the mask head of any two-stage detector.

Paper:    SharpMask, https://arxiv.org/abs/1603.08695
Changes:  the object encoding comes from pooled pyramid features instead of a sliding window, and
          one predictor serves all
          classes: only the row of a RoI's own class is evaluated.

Shapes:   N RoIs, C feature channels, K mask channels, b base grid, S output side.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmcv.cnn import ConvModule
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.registry import MODELS
from mmdet.structures.mask import mask_target
from mmdet.utils import ConfigType, InstanceList, OptConfigType
from mmengine.config import ConfigDict
from mmengine.model import ModuleList
from torch import Tensor, nn

from mmrefine.layers import ClassLogits
from mmrefine.masks import RLEMasks, roi_masks_to_rle

from .lazy_logits import LazyClassLogits
from .refine_head import RefineStage


class ConvEncoding(nn.Sequential):
    """First mask encoding from a stack of 3x3 convolutions: Tensor[N, C, b, b] -> Tensor[N, K, b,
    b]."""

    def __init__(self, in_channels: int, channels: int, base_size: int, depth: int = 4) -> None:
        widths = (in_channels, *[channels] * depth)
        super().__init__(*(ConvModule(a, b, 3, padding=1) for a, b in zip(widths[:-1], widths[1:])))


class LinearEncoding(nn.Sequential):
    """First mask encoding from one low-rank code per RoI, as in DeepMask: same shapes as
    ``ConvEncoding``."""

    def __init__(self, in_channels: int, channels: int, base_size: int, code: int = 512) -> None:
        cells = base_size**2
        super().__init__(
            nn.Conv2d(in_channels, channels, 1),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Linear(channels * cells, code),
            nn.Linear(code, channels * cells),
            nn.Unflatten(1, (channels, base_size, base_size)),
        )


ENCODINGS: dict[str, Any] = dict(conv=ConvEncoding, fc=LinearEncoding)


@MODELS.register_module()
class SharpMaskHead(FCNMaskHead):
    """Refinement mask head for ``StandardRoIHead`` and ``CascadeRoIHead`` with
    ``PyramidRoIExtractor``.

    Not with ``share_roi_extractor``, nor in heads that modify the pooled features: HTC needs
    ``mask_info_flow=False, semantic_fusion=('bbox',)``. Losses, targets and pasting are those of
    ``FCNMaskHead``, on the grid of ``output_size``; ``rcnn.mask_size`` of stock configs is not
    read. ``test_cfg.rcnn.mask_format`` may be ``dense`` (default) or ``rle``.

    Args:
        num_classes: Number of classes.
        in_channels: C.
        levels: Number of pooled maps and refinement modules.
        base_size: b, grid of the coarsest pooled map.
        channels: K of the first encoding; every module halves it.
        hidden_channels: First width of the horizontal branches.
        encoding: ``conv`` (a stack of 3x3 convolutions) or ``fc`` (a 512-vector per object).
        upsample: ``bilinear`` (paper) or ``nearest`` (released code).
        upsample_last: Whether the last module doubles the grid too.
        class_agnostic: One mask for all classes.
        conv_cfg: Convolution type of the refinement.
        loss_mask: As in ``FCNMaskHead``.

    Raises:
        ValueError: Unknown ``encoding``, or ``channels`` cannot be halved ``levels`` times.
    """

    def __init__(
        self,
        num_classes: int = 80,
        in_channels: int = 256,
        levels: int = 4,
        base_size: int = 7,
        channels: int = 128,
        hidden_channels: int = 64,
        encoding: str = 'conv',
        upsample: str = 'bilinear',
        upsample_last: bool = False,
        class_agnostic: bool = False,
        conv_cfg: OptConfigType = None,
        loss_mask: ConfigType = dict(type='CrossEntropyLoss', use_mask=True, loss_weight=1.0),
        init_cfg: OptConfigType = None,
    ) -> None:
        if encoding not in ENCODINGS:
            raise ValueError(f'encoding must be one of {tuple(ENCODINGS)}, got {encoding!r}')
        if channels <= 0 or channels % 2**levels:
            raise ValueError(f'channels must be a multiple of {2**levels}, got {channels}')
        super().__init__(
            num_convs=0,
            in_channels=channels >> levels,
            num_classes=num_classes,
            class_agnostic=class_agnostic,
            upsample_cfg=dict(type=None),
            loss_mask=loss_mask,
        )
        if init_cfg is not None:
            self.init_cfg = init_cfg
        self.in_channels = in_channels
        self.base_size, self.levels = base_size, levels
        self.output_size = base_size << (levels if upsample_last else levels - 1)
        self.encoding = ENCODINGS[encoding](in_channels, channels, base_size)
        self.stages = ModuleList(
            RefineStage(
                (in_channels, hidden_channels, channels >> i),
                channels >> i,
                channels >> (i + 1),
                conv_cfg,
                upsample if upsample_last or i + 1 < levels else 'none',
            )
            for i in range(levels)
        )
        self.conv_logits = ClassLogits(channels >> levels, 1 if class_agnostic else num_classes)

    def init_weights(self) -> None:
        """As the stock head, but logits start near 0.

        Few features enter them: large random weights drive all of those below zero in the first
        steps, from where a ReLU does not return.
        """
        super().init_weights()
        nn.init.normal_(self.conv_logits.weight, std=0.01)

    def refine(self, feats: Sequence[Tensor]) -> Tensor:
        """Pooled maps, coarsest first -> features Tensor[N, K / 2**levels, S, S]."""
        if not isinstance(feats, (list, tuple)) or len(feats) != self.levels:
            found = (
                f'{len(feats)} maps' if isinstance(feats, (list, tuple)) else type(feats).__name__
            )
            raise TypeError(
                f'SharpMaskHead needs a list of {self.levels} pooled maps, got {found}: set '
                "mask_roi_extractor=dict(type='PyramidRoIExtractor', ...) in the RoI head"
            )
        channels, side = feats[0].shape[1], feats[0].shape[-1]
        if (channels, side) != (self.in_channels, self.base_size):
            raise ValueError(
                f'the coarsest pooled map has {channels} channels on a grid of {side}, but the '
                f'head expects {self.in_channels} on {self.base_size}: set mask_head.in_channels '
                'to out_channels and mask_head.base_size to base_size of mask_roi_extractor'
            )
        mask = self.encoding(feats[0])
        for stage, feature in zip(self.stages, feats):
            mask = stage(feature, mask)
        return mask

    def forward(
        self, x: Sequence[Tensor], *handed: Tensor | None, return_feat: bool = False
    ) -> Tensor | LazyClassLogits:
        """Predict masks.

        Args:
            x: Pooled maps, coarsest first.
            handed: What other RoI heads hand to their own mask heads; none is understood.
            return_feat: HTC asks for features to hand on.

        Returns:
            Mask logits Tensor[N, 1, S, S], or their class-wise recipe.

        Raises:
            ValueError: The RoI head is one whose mask heads depend on each other or on queries.
        """
        if handed or return_feat:
            raise ValueError(
                'SharpMaskHead takes pooled maps only: in HTC set mask_info_flow=False and '
                "semantic_fusion=('bbox',); query-based RoI heads keep their own mask heads"
            )
        features = self.refine(x)
        if self.class_agnostic:
            return self.conv_logits(features)
        return LazyClassLogits([(features, self.conv_logits)])

    def get_targets(
        self, sampling_results: list, batch_gt_instances: InstanceList, rcnn_train_cfg: ConfigType
    ) -> Tensor:
        """Targets Tensor[N, S, S]."""
        return mask_target(
            [result.pos_priors for result in sampling_results],
            [result.pos_assigned_gt_inds for result in sampling_results],
            [instances.masks for instances in batch_gt_instances],
            ConfigDict(rcnn_train_cfg, mask_size=self.output_size),
        )

    def loss_and_target(
        self,
        mask_preds: Tensor | LazyClassLogits,
        sampling_results: list,
        batch_gt_instances: InstanceList,
        rcnn_train_cfg: ConfigType,
    ) -> dict[str, Any]:
        """Loss of each RoI's own class."""
        labels = torch.cat([result.pos_gt_labels for result in sampling_results])
        logits = _of_class(mask_preds, labels)
        if not len(logits):  # still touches every parameter, with zero gradient
            return dict(loss_mask=dict(loss_mask=logits.sum()), mask_targets=logits[:, 0])
        targets = self.get_targets(sampling_results, batch_gt_instances, rcnn_train_cfg)
        loss = self.loss_mask(logits.float(), targets, torch.zeros_like(labels))
        return dict(loss_mask=dict(loss_mask=loss), mask_targets=targets)

    def _predict_by_feat_single(
        self,
        mask_preds: Tensor | LazyClassLogits,
        bboxes: Tensor,
        labels: Tensor,
        img_meta: dict,
        rcnn_test_cfg: ConfigType,
        rescale: bool = False,
        activate_map: bool = False,
    ) -> Tensor | RLEMasks:
        """Masks of one image: BoolTensor[N, h, w], or RLEs."""
        values = _of_class(mask_preds, labels)
        if rcnn_test_cfg.get('mask_format', 'dense') == 'dense':
            return super()._predict_by_feat_single(
                values,
                bboxes,
                torch.zeros_like(labels),
                img_meta,
                rcnn_test_cfg,
                rescale,
                activate_map,
            )
        height, width = img_meta['ori_shape'][:2]
        scale = bboxes.new_tensor(img_meta['scale_factor']).repeat(2)
        if rescale:
            bboxes /= scale  # in place, as the stock head does: the caller's boxes follow
        else:
            width, height = round(width * scale[0].item()), round(height * scale[1].item())
        rles = roi_masks_to_rle(
            values[:, 0],
            bboxes,
            (height, width),
            rcnn_test_cfg.mask_thr_binary,
            logits=not activate_map,
        )
        return RLEMasks(rles, (height, width))


def _of_class(mask_preds: Tensor | LazyClassLogits, labels: Tensor) -> Tensor:
    """Values of each RoI's class, Tensor[N, 1, S, S]."""
    if isinstance(mask_preds, LazyClassLogits):
        return mask_preds.of_class(labels)
    if mask_preds.shape[1] == 1:
        return mask_preds
    return mask_preds.gather(1, labels.view(-1, 1, 1, 1).expand(-1, 1, *mask_preds.shape[2:]))
