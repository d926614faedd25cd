"""Stock MMDetection RoI mask heads whose masks leave the model as RLE.

Either name the head in the config::

    model = dict(roi_head=dict(mask_head=dict(type='RLEFCNMaskHead')))

or leave the model alone and add one hook, which serves every RoI mask head of it::

    custom_hooks = [dict(type='MaskFormatHook', mask_format='rle')]

``test_cfg.rcnn.mask_format`` (``'dense'`` or ``'rle'``) decides where both are possible. The masks
are the same pixels in either format; RLE needs no memory of the size of the image. Images without
any detection may keep MMDetection's dense tensor of zero masks.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmdet.evaluation import DumpDetResults
from mmdet.models.roi_heads.mask_heads import (
    CoarseMaskHead,
    DynamicMaskHead,
    FCNMaskHead,
    HTCMaskHead,
    SCNetMaskHead,
)
from mmdet.registry import HOOKS, MODELS
from mmdet.utils import InstanceList
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from . import check_format, roi_masks_to_rle
from .rle import RLE


class RLEMasks(FCNMaskHead):
    """What goes before ``FCNMaskHead`` or a class derived from it, ``class X(RLEMasks, Base)``.

    ``rcnn_test_cfg.mask_format`` is ``'rle'`` where it is missing: who names such a head wants RLE.
    """

    def predict_by_feat(
        self,
        mask_preds: tuple[Tensor, ...],
        results_list: InstanceList,
        batch_img_metas: list[dict],
        rcnn_test_cfg: dict,
        rescale: bool = False,
        activate_map: bool = False,
    ) -> InstanceList:
        """Add masks to the detections of each image, boxes rescaled in place as in ``FCNMaskHead``.

        Args:
            mask_preds: Per image Tensor[n, C, S, S]: logits, or probabilities if ``activate_map``.
            results_list: Per image, boxes in pixels of the network input.
            batch_img_metas: Per image.
            rcnn_test_cfg: With ``mask_thr_binary`` and perhaps ``mask_format``.
            rescale: Return boxes and masks at the original image size.
            activate_map: The predictions have been through the sigmoid.

        Returns:
            Detections with ``masks``: a list of n RLEs, or BoolTensor[n, h, w] if dense.

        Raises:
            ValueError: Unknown ``mask_format``, or RLE with a ``mask_thr_binary`` not above 0.
        """
        mask_format = check_format(rcnn_test_cfg.get('mask_format', 'rle'))
        results_list = super().predict_by_feat(
            mask_preds, results_list, batch_img_metas, rcnn_test_cfg, rescale, activate_map
        )
        if mask_format == 'rle':
            for results in results_list:
                if len(results) == 0:
                    results.masks = []
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
    ) -> Tensor | list[RLE]:
        if rcnn_test_cfg.get('mask_format', 'rle') == 'dense':
            return super()._predict_by_feat_single(
                mask_preds, bboxes, labels, img_meta, rcnn_test_cfg, rescale, activate_map
            )
        scale = bboxes.new_tensor(img_meta['scale_factor'])
        height, width = img_meta['ori_shape'][:2]
        if rescale:
            bboxes /= scale.repeat(2)
        else:
            height = int(np.round(height * scale[1].item()))
            width = int(np.round(width * scale[0].item()))
        # Averaged predictions of several stages or views arrive as arrays.
        masks = torch.as_tensor(mask_preds, device=bboxes.device)
        channel = 0 if self.class_agnostic else labels
        return roi_masks_to_rle(
            masks[range(len(masks)), channel],
            bboxes,
            (height, width),
            rcnn_test_cfg['mask_thr_binary'],
            logits=not activate_map,
        )


@MODELS.register_module()
class RLEFCNMaskHead(RLEMasks):
    """``FCNMaskHead`` (Mask R-CNN, Cascade Mask R-CNN, Mask Scoring R-CNN) with RLE output."""


@MODELS.register_module()
class RLEHTCMaskHead(RLEMasks, HTCMaskHead):
    """``HTCMaskHead`` with RLE output."""


@MODELS.register_module()
class RLECoarseMaskHead(RLEMasks, CoarseMaskHead):
    """``CoarseMaskHead`` with RLE output; in PointRend it also resizes the refined masks."""


@MODELS.register_module()
class RLESCNetMaskHead(RLEMasks, SCNetMaskHead):
    """``SCNetMaskHead`` with RLE output."""


@MODELS.register_module()
class RLEDynamicMaskHead(RLEMasks, DynamicMaskHead):
    """``DynamicMaskHead`` (QueryInst) with RLE output."""


_CLASSES: dict[type, type] = {}


def rle_class(head: type) -> type:
    """Derive the RLE-capable class of a mask head class; the same one every time."""
    if head not in _CLASSES:
        _CLASSES[head] = type(f'RLE{head.__name__}', (RLEMasks, head), {})
    return _CLASSES[head]


def set_mask_format(model: nn.Module, mask_format: str) -> int:
    """Make a built model hand out masks in the given format.

    Args:
        model: Any detector; weights and state dict stay as they are.
        mask_format: ``'dense'`` or ``'rle'``.

    Returns:
        Number of stock mask heads that were converted.

    Raises:
        ValueError: Unknown format, or the model has no mask head that knows both.
    """
    check_format(mask_format)
    heads = [m for m in model.modules() if isinstance(m, FCNMaskHead)]
    stock = [m for m in heads if not isinstance(m, RLEMasks)]
    ours = any(type(m).__module__.startswith('mmrefine.') for m in model.modules())
    if not heads and not ours:
        raise ValueError(
            f'{type(model).__name__} has no RoI mask head to set mask_format={mask_format!r} for'
        )
    for head in stock:
        head.__class__ = rle_class(type(head))
    for module in model.modules():
        config = getattr(module, 'test_cfg', None)
        if isinstance(config, dict):
            config['mask_format'] = mask_format
            if isinstance(config.get('rcnn'), dict):
                config['rcnn']['mask_format'] = mask_format
    return len(stock)


@HOOKS.register_module()
class MaskFormatHook(Hook):
    """Set the format of the masks of the model that is trained or tested.

    Args:
        mask_format: ``'dense'`` or ``'rle'``.
    """

    def __init__(self, mask_format: str = 'rle') -> None:
        self.mask_format = check_format(mask_format)

    def before_run(self, runner: Runner) -> None:
        """Convert the model's mask heads."""
        set_mask_format(runner.model, self.mask_format)

    def before_test(self, runner: Runner) -> None:
        """Let the results of ``test.py --out`` hold RLE, which mmdet's dump cannot read."""
        for metric in runner.test_evaluator.metrics:
            if type(metric) is DumpDetResults:
                metric.__class__ = RLEDumpDetResults


class RLEDumpDetResults(DumpDetResults):
    """``DumpDetResults`` for masks in either format; the same file comes out."""

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Take the predictions of a batch.

        Args:
            data_batch: Not used.
            data_samples: Dicts with ``pred_instances``.
        """
        held, plain = [], []
        for sample in data_samples:
            found = dict(sample.get('pred_instances', {}))
            held.append(found.pop('masks') if isinstance(found.get('masks'), list) else None)
            plain.append(dict(sample, pred_instances=found) if held[-1] is not None else sample)
        first = len(self.results)
        super().process(data_batch, plain)
        for sample, masks in zip(self.results[first:], held):
            if masks is not None:
                sample['pred_instances']['masks'] = masks
