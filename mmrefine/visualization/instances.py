"""Objects and predictions of one image, and which belong together.

Shapes:   G objects, D predictions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from mmrefine.evaluation.greedy import UNMATCHED, match_greedily, pairwise_ious

IN_CROWD = -2
THRESHOLD = np.array([0.5])


@dataclass(frozen=True)
class Instances:
    """Masks of one image."""

    rles: list[dict]  # N compressed RLEs of the size of the image
    categories: Sequence[Any]  # N category ids or labels
    scores: np.ndarray | None = None  # float array[N]; None for ground truth
    # boolArray[N], objects that cannot be missed; None: there are none
    crowd: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.rles)

    @property
    def is_crowd(self) -> np.ndarray:
        """BoolArray[N]."""
        return np.zeros(len(self), bool) if self.crowd is None else self.crowd

    @property
    def boxes(self) -> np.ndarray:
        """Float64 array[N, 4], x, y, width, height of the masks."""
        return coco_mask.toBbox(self.rles).reshape(-1, 4) if self.rles else np.zeros((0, 4))

    def texts(self, names: Mapping[Any, str] | Sequence[str]) -> list[str]:
        """Category names, with the score where there is one: ``'star 0.93'``."""
        if self.scores is None:
            return [str(names[c]) for c in self.categories]
        return [f'{names[c]} {s:.2f}' for c, s in zip(self.categories, self.scores)]


def match(
    truth: Instances, found: Instances, by_category: bool = True
) -> tuple[list[int], np.ndarray]:
    """Give every prediction, best score first, the free object that it overlaps most, by a mask
    IoU of at least 0.5; ``by_category`` only objects of the category of the prediction.

    Returns:
        For each prediction the index of its object, or -1 (without one), or -2 (mostly inside a
        crowd); and the mask IoUs, float array[D, G].
    """
    crowd = truth.is_crowd
    ious = usable = pairwise_ious(found.rles, truth.rles, crowd)
    if by_category:
        same = [[a == b for b in truth.categories] for a in found.categories]
        usable = np.where(np.array(same, bool).reshape(ious.shape), ious, 0.0)
    scores = np.ones(len(found)) if found.scores is None else found.scores
    order = np.argsort(-scores, kind='stable')
    partner = np.full(len(found), UNMATCHED)
    partner[order] = match_greedily(usable[order], crowd, ~crowd[None], THRESHOLD)[0, 0]
    partner[(partner >= 0) & np.append(crowd, False)[partner]] = IN_CROWD
    return partner.tolist(), ious
