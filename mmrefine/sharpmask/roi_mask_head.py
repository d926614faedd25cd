"""Top-down refinement as the mask head of any two-stage detector.

Paper:    SharpMask, https://arxiv.org/abs/1603.08695
Changes:  the object encoding comes from pooled pyramid features instead of a sliding window, and
          one predictor serves all classes.

Shapes:   N RoIs, C feature channels, K mask channels, b base grid, S output side.
"""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from mmdet.registry import MODELS
from mmdet.utils import ConfigType, InstanceList, OptConfigType
from mmengine.config import ConfigDict
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn

from mmrefine.layers import ClassLogits, ConvStack, loads_weights, require_finite
from mmrefine.masks import RLEMasks
from mmrefine.masks.stock_heads import RLEOutput

from .refine_head import RefineStage


@MODELS.register_module()
class SharpMaskHead(RLEOutput):
    """Refinement mask head for ``StandardRoIHead`` and ``CascadeRoIHead`` with
    ``PyramidRoIExtractor``.

    Not with ``share_roi_extractor``, nor in heads that modify the pooled features: HTC needs
    ``HTCSharpMaskRoIHead``. Losses, targets and pasting are those of
    ``FCNMaskHead``, on the grid of ``output_size``; ``rcnn.mask_size`` of stock configs is not
    read. ``test_cfg.rcnn.mask_format`` may be ``dense`` (default) or ``rle``. The RoI heads of
    ``roi_head.py`` check classes, labels and NaN, which stock RoI heads do not.

    Args:
        num_classes: Number of classes; ``SharpMaskRoIHead`` takes that of the box head.
        in_channels: C.
        levels: Number of pooled maps and refinement modules.
        base_size: b, grid of the coarsest pooled map.
        channels: K of the first encoding; every module halves it.
        hidden_channels: First width of the horizontal branches.
        upsample: ``bilinear`` (paper) or ``nearest`` (released code).
        upsample_last: Whether the last module doubles the grid too.
        class_agnostic: One mask for all classes.
        conv_cfg: Convolution type of the refinement.
        loss_mask: As in ``FCNMaskHead``.
    """

    default_format = 'dense'  # as of a stock mask head

    def __init__(
        self,
        num_classes: int = 80,
        in_channels: int = 256,
        levels: int = 4,
        base_size: int = 7,
        channels: int = 128,
        hidden_channels: int = 64,
        upsample: str = 'bilinear',
        upsample_last: bool = False,
        class_agnostic: bool = False,
        conv_cfg: OptConfigType = None,
        loss_mask: ConfigType = dict(type='CrossEntropyLoss', use_mask=True, loss_weight=1.0),
        init_cfg: OptConfigType = None,
    ) -> None:
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
        # The head calls it as FCNMaskHead does: with labels where others take weights.
        third = list(inspect.signature(self.loss_mask.forward).parameters)[2:3]
        if third == ['weight'] and not getattr(self.loss_mask, 'use_mask', False):
            raise ValueError(
                f'loss_mask takes no labels: {type(self.loss_mask).__name__} would read them as '
                "weights; use dict(type='CrossEntropyLoss', use_mask=True)"
            )
        if init_cfg is not None:
            self.init_cfg = init_cfg
        self.in_channels = in_channels
        self.base_size, self.levels = base_size, levels
        self.output_size = base_size << (levels if upsample_last else levels - 1)
        self.encoding = ConvStack(in_channels, channels, depth=4)
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
        if loads_weights(self.init_cfg):
            return BaseModule.init_weights(self)
        super().init_weights()
        nn.init.normal_(self.conv_logits.weight, std=0.01)

    def refine(self, feats: Sequence[Tensor]) -> Tensor:
        """Pooled maps, coarsest first -> features Tensor[N, K / 2**levels, S, S]."""
        listed = isinstance(feats, (list, tuple))
        if not listed or len(feats) != self.levels:
            found = f'{len(feats)} maps' if listed else type(feats).__name__
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
        mask = self.encoding(feats[0])  # (N, K, b, b)
        for stage, feature in zip(self.stages, feats):
            mask = stage(feature, mask)  # half the channels, twice the side but for the last stage
        return mask

    def forward(
        self,
        x: Sequence[Tensor],
        *handed: Tensor | None,
        labels: Tensor | None = None,
        return_feat: bool = False,
    ) -> Tensor:
        """Predict masks.

        Pooled maps come coarsest first: Tensor[N, C, b, b], Tensor[N, C, 2b, 2b], ...
        What other RoI heads hand to their own mask heads is not understood, nor features to hand on
        (HTC).

        Returns:
            Mask logits Tensor[N, num_classes, S, S]; Tensor[N, 1, S, S] of the RoIs' own classes
            with ``labels``, LongTensor[N], and with ``class_agnostic``.
        """
        if handed or return_feat:
            raise ValueError(
                'SharpMaskHead takes pooled maps only: in HTC set roi_head.type to '
                'HTCSharpMaskRoIHead; query-based RoI heads keep their own mask heads'
            )
        return self.conv_logits(self.refine(x), labels)

    def get_targets(
        self, sampling_results: list, batch_gt_instances: InstanceList, rcnn_train_cfg: ConfigType
    ) -> Tensor:
        """Targets Tensor[N, S, S]."""
        config = ConfigDict(rcnn_train_cfg, mask_size=self.output_size)
        return super().get_targets(sampling_results, batch_gt_instances, config)

    def loss_and_target(
        self,
        mask_preds: Tensor,
        sampling_results: list,
        batch_gt_instances: InstanceList,
        rcnn_train_cfg: ConfigType,
    ) -> dict[str, Any]:
        """Loss of each RoI's own class on logits Tensor[N, num_classes or 1, S, S]."""
        labels = torch.cat([result.pos_gt_labels for result in sampling_results])
        logits = own_class(mask_preds, labels)
        if not len(logits):  # still touches every parameter, with zero gradient
            return dict(loss_mask=dict(loss_mask=mask_preds.sum()), mask_targets=logits[:, 0])
        targets = self.get_targets(sampling_results, batch_gt_instances, rcnn_train_cfg)
        loss = self.loss_mask(logits.float(), targets, torch.zeros_like(labels))
        return dict(loss_mask=dict(loss_mask=loss), mask_targets=targets)

    def predict_by_feat(
        self, mask_preds: tuple[Tensor, ...], *args: Any, **kwargs: Any
    ) -> InstanceList:
        """As in ``FCNMaskHead``; values that are not finite raise FloatingPointError."""
        require_finite('mask logits', *(torch.as_tensor(preds) for preds in mask_preds))
        return super().predict_by_feat(mask_preds, *args, **kwargs)

    def _predict_by_feat_single(
        self, mask_preds: Tensor, bboxes: Tensor, labels: Tensor, *args: Any, **kwargs: Any
    ) -> Tensor | RLEMasks:
        logits, only = own_class(mask_preds, labels), torch.zeros_like(labels)
        return super()._predict_by_feat_single(logits, bboxes, only, *args, **kwargs)


def own_class(mask_preds: Tensor, labels: Tensor) -> Tensor:
    """Pick each RoI's class, (N, num_classes or 1, S, S) -> (N, 1, S, S)."""
    if mask_preds.shape[1] == 1:
        return mask_preds
    return mask_preds.gather(1, labels.view(-1, 1, 1, 1).expand(-1, 1, *mask_preds.shape[2:]))
