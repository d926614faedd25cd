"""Stock MMDetection RoI mask heads whose masks leave the model as RLE.

Either name the head in the config::

    model = dict(roi_head=dict(mask_head=dict(type='RLEFCNMaskHead')))

or leave the model alone and add one hook, which serves every RoI mask head of it::

    custom_hooks = [dict(type='MaskFormatHook', mask_format='rle')]

``test_cfg.rcnn.mask_format`` (``'dense'`` or ``'rle'``) decides where both are possible. The masks
are the same pixels in either format; RLE needs no memory of the size of the image. A batch without
any detection may keep MMDetection's dense tensor of zero masks.
"""

import numpy as np
import torch
from mmdet.models.detectors import BaseDetector
from mmdet.models.roi_heads import BaseRoIHead
from mmdet.models.roi_heads.mask_heads import (
    CoarseMaskHead,
    DynamicMaskHead,
    FCNMaskHead,
    HTCMaskHead,
    SCNetMaskHead,
)
from mmdet.registry import HOOKS, MODELS
from mmdet.utils import InstanceList
from mmengine.config import ConfigDict
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from . import MaskGrids, RLEMasks, check_format, output_size, roi_masks, scale_factors


class RLEOutput(FCNMaskHead):
    """What goes before ``FCNMaskHead`` or a class derived from it, ``class X(RLEOutput, Base)``.

    Where ``rcnn_test_cfg.mask_format`` is missing, it is ``default_format``: ``'rle'``, since who
    names such a head wants RLE.
    """

    default_format = 'rle'

    def predict_by_feat(
        self,
        mask_preds: tuple[Tensor, ...],
        results_list: InstanceList,
        batch_img_metas: list[dict],
        rcnn_test_cfg: dict,
        rescale: bool = False,
        activate_map: bool = False,
    ) -> InstanceList:
        """Add masks to the detections of each image, boxes rescaled in place; see ``FCNMaskHead``.
        ``mask_thr_binary`` is 0.5 where it is missing.

        Returns:
            Detections with ``masks``: ``RLEMasks`` of n, or BoolTensor[n, h, w] if dense.
        """
        mask_format = rcnn_test_cfg.get('mask_format', self.default_format)
        if mask_format != 'grids':
            check_format(mask_format)
        config = ConfigDict({'mask_thr_binary': 0.5, **rcnn_test_cfg})
        results_list = super().predict_by_feat(
            mask_preds, results_list, batch_img_metas, config, rescale, activate_map
        )
        if mask_format == 'rle':
            for results, meta in zip(results_list, batch_img_metas):
                if len(results) == 0:  # the base class gives a dense tensor of no masks
                    results.masks = RLEMasks([], _size(meta, rescale))
        return results_list

    def _predict_by_feat_single(
        self,
        mask_preds: Tensor,
        bboxes: Tensor,
        labels: Tensor,
        img_meta: dict,
        rcnn_test_cfg: dict,
        rescale: bool = False,
        activate_map: bool = False,
    ) -> Tensor | RLEMasks | MaskGrids:
        mask_format = rcnn_test_cfg.get('mask_format', self.default_format)
        if mask_format == 'dense':
            return super()._predict_by_feat_single(
                mask_preds, bboxes, labels, img_meta, rcnn_test_cfg, rescale, activate_map
            )
        if rescale:
            bboxes /= bboxes.new_tensor(scale_factors(img_meta)).repeat(2)
        size = _size(img_meta, rescale)
        # Averaged predictions of several stages or views arrive as arrays.
        masks = torch.as_tensor(mask_preds, device=bboxes.device)  # (n, C, S, S)
        channel = 0 if self.class_agnostic else labels
        masks = masks[range(len(masks)), channel]  # (n, S, S)
        probs = masks if activate_map else masks.sigmoid()
        return roi_masks(probs, bboxes, size, rcnn_test_cfg['mask_thr_binary'], mask_format)


def _size(meta: dict, rescale: bool) -> tuple[int, int]:
    """Size of the masks of an image, rounded as in ``FCNMaskHead``: (h, w)."""
    height, width = output_size(meta, rescale=True)
    if rescale:
        return height, width
    wide, high = scale_factors(meta)
    return int(np.round(height * high)), int(np.round(width * wide))


@MODELS.register_module()
class RLEFCNMaskHead(RLEOutput):
    """``FCNMaskHead`` (Mask R-CNN, Cascade Mask R-CNN, Mask Scoring R-CNN) with RLE output."""


@MODELS.register_module()
class RLEHTCMaskHead(RLEOutput, HTCMaskHead):
    """``HTCMaskHead`` with RLE output."""


@MODELS.register_module()
class RLECoarseMaskHead(RLEOutput, CoarseMaskHead):
    """``CoarseMaskHead`` with RLE output; in PointRend it also resizes the refined masks."""


@MODELS.register_module()
class RLESCNetMaskHead(RLEOutput, SCNetMaskHead):
    """``SCNetMaskHead`` with RLE output."""


@MODELS.register_module()
class RLEDynamicMaskHead(RLEOutput, DynamicMaskHead):
    """``DynamicMaskHead`` (QueryInst) with RLE output."""


# Stock class -> the registered one whose masks can be RLE.
RLE_HEADS: dict[type, type[RLEOutput]] = {
    FCNMaskHead: RLEFCNMaskHead,
    HTCMaskHead: RLEHTCMaskHead,
    CoarseMaskHead: RLECoarseMaskHead,
    SCNetMaskHead: RLESCNetMaskHead,
    DynamicMaskHead: RLEDynamicMaskHead,
}


def rle_head(head: nn.Module) -> RLEOutput:
    """Return a head with the weights and settings of a stock one, whose masks can be RLE.

    The two heads share parameters, buffers and hooks.
    """
    kind = RLE_HEADS.get(type(head))
    if kind is None:
        raise ValueError(
            f'{type(head).__name__} cannot give masks as RLE, only '
            f'{", ".join(stock.__name__ for stock in RLE_HEADS)} and the heads of mmrefine can; '
            'derive a head of your own from mmrefine.RLEFCNMaskHead'
        )
    twin = kind.__new__(kind)
    twin.__dict__.update(head.__dict__)
    return twin


def set_mask_format(model: nn.Module, mask_format: str) -> int:
    """Make a built model, any detector, return masks as ``'dense'`` or ``'rle'``.

    Weights and state dict stay as they are. Returns the number of stock mask heads that were
    replaced by their ``rle_head``.
    """
    check_format(mask_format)
    heads = [m for m in model.modules() if isinstance(m, FCNMaskHead)]
    kinds = BaseDetector, BaseRoIHead  # those of mmrefine read mask_format of their test_cfg
    found = [base for m in model.modules() if isinstance(m, kinds) for base in type(m).__mro__]
    if not heads and not any(base.__module__.startswith('mmrefine.') for base in found):
        raise ValueError(
            f'{type(model).__name__} has no RoI mask head to set mask_format={mask_format!r} for'
        )
    stock = [head for head in heads if not isinstance(head, RLEOutput)]
    twins = {head: rle_head(head) for head in stock} if mask_format == 'rle' else {}
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if child in twins:
                setattr(parent, name, twins[child])
    for module in model.modules():
        config = getattr(module, 'test_cfg', None)
        if isinstance(config, dict):
            config['mask_format'] = mask_format
            if isinstance(config.get('rcnn'), dict):
                config['rcnn']['mask_format'] = mask_format
    return len(twins)


@HOOKS.register_module()
class MaskFormatHook(Hook):
    """Set the format of the masks of the model that is trained or tested.

    Args:
        mask_format: ``'dense'`` or ``'rle'``.
    """

    def __init__(self, mask_format: str = 'rle') -> None:
        self.mask_format = check_format(mask_format)

    def before_run(self, runner: Runner) -> None:
        """Replace the model's stock mask heads and set the format of the others."""
        set_mask_format(runner.model, self.mask_format)
