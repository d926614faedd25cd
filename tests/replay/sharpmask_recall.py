"""Average recall of recorded proposals."""

import numpy as np
import torch

from mmrefine.evaluation.proposal_ar import average_recall, image_ranks

from .golden import Golden
from .report import Report


def check_recall(golden: Golden, report: Report, device: torch.device) -> None:
    """Average recall and its area against pycocotools."""
    thresholds = np.array(golden['iou_thrs'])
    names = ('all', *golden['area_ranges'])
    for kind in ('bbox', 'segm'):
        truth: dict[int, list] = {image['id']: [] for image in golden['gt']['images']}
        for annotation in golden['gt']['annotations']:
            truth[annotation['image_id']].append(annotation)
        proposals: dict[int, list] = {key: [] for key in truth}
        for proposal in golden['proposals']:
            proposals[proposal['image_id']].append(proposal)
        ranks = [
            image_ranks(found, proposals[key], kind, thresholds) for key, found in truth.items()
        ]
        recall = average_recall(ranks, (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000))
        for name in names:
            for limit, value in golden['expected'][f'{kind}_{name}'].items():
                key = 'auc' if limit.startswith('auc') else int(limit)
                report.close(f'{kind}_{name}@{limit}', recall[name][key], value, atol=1e-9)
