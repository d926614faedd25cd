"""Quality of patch masks and scores: the training monitor.

Origin:   the IoU and binary meters of facebookresearch/deepmask
Changes:  masks without any overlap count (the released meter drops them, which is optimistic).

Shapes:   S predicted mask side, g label side.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmdet.registry import METRICS
from mmengine.evaluator import BaseMetric
from torch import Tensor
from torch.nn import functional as F


def patch_iou(logits: Tensor, label: Tensor) -> float:
    """IoU of mask logits Tensor[S, S], resized corner-aligned, with a label Tensor[g, g].

    A pixel is foreground if its probability exceeds one half; two empty masks give 1.
    """
    if logits.shape != label.shape:
        logits, size = logits[None, None].float(), tuple(label.shape)
        logits = F.interpolate(logits, size, mode='bilinear', align_corners=True)[0, 0]  # (g, g)
    mask, label = logits.sigmoid() > 0.5, label.bool()
    union = (mask | label).sum().item()
    return (mask & label).sum().item() / union if union else 1.0


@METRICS.register_module()
class PatchMaskMetric(BaseMetric):
    """IoU mean, median and shares above .5 and .7 of mask patches; accuracy of score patches."""

    default_prefix = 'patch'

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Judge a batch of patches."""
        for sample in data_samples:
            truth, predicted = sample['gt_instances'], sample['pred_instances']
            if bool(truth['has_mask']):
                logits, label = predicted['mask_logits'][0], truth['patch_masks'][0]
                self.results.append(('iou', patch_iou(logits, label)))
            if bool(truth['has_score']):
                positive = bool(torch.as_tensor(predicted['scores'])[0] > 0)
                correct = positive == bool(truth['patch_scores'][0] > 0.5)
                self.results.append(('score', float(correct)))

    def compute_metrics(self, results: list[tuple[str, float]]) -> dict[str, float]:
        """Summaries over all patches; quantities without a patch are left out."""
        ious = np.array([value for kind, value in results if kind == 'iou'])
        scores = np.array([value for kind, value in results if kind == 'score'])
        metrics: dict[str, float] = {}
        if ious.size:
            metrics.update(iou_mean=float(ious.mean()), iou_median=float(np.median(ious)))
            metrics.update({f'iou@{t}': float((ious >= t).mean()) for t in (0.5, 0.7)})
        if scores.size:
            metrics['score_accuracy'] = float(scores.mean())
        return metrics
