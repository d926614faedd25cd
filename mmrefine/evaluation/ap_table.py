"""Named numbers from the precision and recall of every category.

Shapes:   T IoU thresholds, R = 101 recall levels, K categories, A areas, M caps on the detections.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mmrefine.results.ground_truth import FREQUENCIES, Id

from .protocols import UNLIMITED, Rules

NOTHING = -1.0  # COCO's value where there is no ground truth to find


@dataclass
class APTable:
    """What a matching engine returns."""

    precision: np.ndarray  # float64 array[T, R, K, A, M], -1 where a category has no ground truth
    recall: np.ndarray  # float64 array[T, K, A, M], likewise
    category_ids: list[Id]

    def numbers(self, rules: Rules, frequency: Mapping[Id, str]) -> dict[str, float]:
        """AP, AP50, AP75, AP_<area>, AR<cap>, AR_<area> and for LVIS APr, APc, APf; 0-1, or -1.

        ``frequency`` of LVIS: category id -> ``'r'``, ``'c'`` or ``'f'``.
        """
        areas = {name: a for a, name in enumerate(rules.areas)}
        everything = areas.pop('all')
        result = {'AP': _mean(self.precision[:, :, :, everything, -1])}
        for percent in (50, 75):
            at = np.flatnonzero(np.isclose(rules.iou_thresholds, percent / 100))
            if len(at):
                result[f'AP{percent}'] = _mean(self.precision[at, :, :, everything, -1])
        for name, a in areas.items():
            result[f'AP_{name}'] = _mean(self.precision[:, :, :, a, -1])
        if rules.federated:
            for letter in FREQUENCIES:
                rows = [k for k, c in enumerate(self.category_ids) if frequency[c] == letter]
                result[f'AP{letter}'] = _mean(self.precision[:, :, rows, everything, -1])
        for m, cap in enumerate(rules.max_dets):
            shown = rules.per_image if cap == UNLIMITED else cap
            result[f'AR{shown or ""}'] = _mean(self.recall[:, :, everything, m])
        for name, a in areas.items():
            result[f'AR_{name}'] = _mean(self.recall[:, :, a, -1])
        return result

    def per_category(self, rules: Rules) -> dict[Id, float]:
        """AP of every category; -1 where it has no ground truth."""
        everything = list(rules.areas).index('all')
        return {
            category: _mean(self.precision[:, :, k, everything, -1])
            for k, category in enumerate(self.category_ids)
        }


def number_names(rules: Rules) -> list[str]:
    """The names of all numbers of a protocol."""
    t, a, m = len(rules.iou_thresholds), len(rules.areas), len(rules.max_dets)
    empty = APTable(np.zeros((t, 101, 0, a, m)), np.zeros((t, 0, a, m)), [])
    return list(empty.numbers(rules, {}))


def _mean(values: np.ndarray) -> float:
    valid = values[values > NOTHING]
    return float(valid.mean()) if valid.size else NOTHING
