"""From the dense predictions of one image to its few detections: ranking and cutting.

Shapes: P points of all levels, K classes, N candidates. Scores are probabilities; labels count
        from 0.
"""

from collections.abc import Collection, Sequence
from logging import WARNING

import torch
from mmdet.utils import ConfigType
from mmengine.logging import print_log
from torch import Tensor

from mmrefine.layers import require_finite

from .graph_nms import at_most
from .nms import suppress

# Keys of ``test_cfg`` that ``select_detections`` and ``least_sides`` know.
TEST_KEYS = frozenset(
    (
        *('nms_pre', 'score_thr', 'nms', 'max_per_img', 'min_bbox_size'),
        *('candidates', 'max_candidates', 'filter_by_product', 'sqrt_score'),
    )
)
# Detections settle for the threshold of the papers unless a config names another.
DEFAULT_NMS = {'iou_threshold': 0.6}


def warn_of_unknown_keys(test_cfg: ConfigType, known: Collection[str]) -> None:
    """Log a warning that names the keys of a ``test_cfg`` that have no effect."""
    if unknown := sorted(set(test_cfg) - set(known)):
        text = f'test_cfg.{", test_cfg.".join(unknown)} without effect; known keys: '
        print_log(text + ', '.join(sorted(known)), logger='current', level=WARNING)


def least_sides(cfg: ConfigType, scale: tuple[float, float]) -> tuple[float, float] | None:
    """Sides (w, h) that boxes must exceed, by ``cfg.min_bbox_size`` in pixels of the original
    image, of which ``scale`` (x, y) makes those of the boxes; None without a limit."""
    least = cfg.get('min_bbox_size', -1)
    return None if least < 0 else (least * scale[0], least * scale[1])


def select_detections(
    boxes: Tensor,
    class_probs: Tensor,
    factors: Tensor,
    counts: Sequence[int],
    cfg: ConfigType,
    least: tuple[float, float] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Rank, suppress and cut the predictions of one image.

    Args:
        boxes: Tensor[P, 4], for the overlaps.
        class_probs: Tensor[P, K].
        factors: Tensor[P], multiplied into the scores (centerness).
        counts: Points per level.
        cfg: ``score_thr`` (0.05) on the class probability, or on score times factor with
            ``filter_by_product``; ``candidates``: every level contributes its ``nms_pre`` (1000)
            best (point, class) ``'pairs'`` or all pairs of so many ``'points'``; of these
            ``max_candidates`` (all) go on; ``sqrt_score`` takes the root of the product; ``nms``
            see ``suppress``; ``max_per_img`` (100). -1 is no limit.
        least: Boxes of smaller or equal sides are left out before suppression, see
            ``least_sides``.

    Returns:
        Scores Tensor[N], best first, point indices LongTensor[N] and labels LongTensor[N].

    Raises:
        ValueError: For an unknown kind of candidates or of suppression.
        FloatingPointError: A prediction is not finite.
    """
    nms = cfg.get('nms', DEFAULT_NMS)
    kind = cfg.get('candidates', 'pairs')
    if kind not in ('pairs', 'points'):
        raise ValueError(f"candidates must be 'pairs' or 'points', got {kind!r}")
    # Fast NMS thresholds and ranks the products of whole points, as YOLACT does.
    fast = nms is not None and nms.get('type') == 'fast'
    by_product = fast or cfg.get('filter_by_product', False)
    threshold, per_level = cfg.get('score_thr', 0.05), cfg.get('nms_pre', 1000)
    require_finite('boxes or scores', boxes, class_probs, factors)
    levels = list(zip(class_probs.split(counts), factors.split(counts)))
    starts = [sum(counts[:level]) for level in range(len(counts))]
    if fast or kind == 'points':
        points = [best_points(p, f, per_level) + start for (p, f), start in zip(levels, starts)]
        points = torch.cat(points)
        scores, chosen, labels = class_candidates(
            class_probs[points], factors[points], threshold, filter_by_product=by_product
        )
        index = points[chosen]
    else:
        rule = dict(filter_by_product=by_product)
        found = [class_candidates(class_probs, factors, threshold, **rule)]
        few = not torch.jit.is_tracing() and len(found[0][0]) <= per_level  # on every level
        if per_level >= 0 and not few:
            found = [class_candidates(p, f, threshold, per_level, **rule) for p, f in levels]
            found = [(s, at + start, k) for (s, at, k), start in zip(found, starts)]
        scores, index, labels = (torch.cat(field) for field in zip(*found))
    best = _best(scores, cfg.get('max_candidates'))
    scores, index, labels = scores[best], index[best], labels[best]
    if least is not None:
        sides = boxes[index, 2:] - boxes[index, :2]
        large = (sides > sides.new_tensor(least)).all(dim=1).nonzero()[:, 0]
        scores, index, labels = scores[large], index[large], labels[large]
    scores = scores.sqrt() if cfg.get('sqrt_score', False) else scores
    kept, scores = suppress(boxes[index], scores, labels, nms, cfg.get('max_per_img', 100))
    return scores, index[kept], labels[kept]


def class_candidates(
    class_probs: Tensor,
    factors: Tensor,
    threshold: float,
    limit: int | None = None,
    filter_by_product: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Take the best (point, class) pairs; a point may appear under several classes.

    Args:
        class_probs, factors: As in ``select_detections``; their products rank the pairs.
        threshold: Pairs must exceed it, strictly.
        limit: Largest number of pairs; None or a negative number keeps every one.
        filter_by_product: Compare the product with the threshold; by default the class
            probability alone.

    Returns:
        Scores Tensor[N] (products), point indices LongTensor[N] and labels LongTensor[N], in grid
        order.
    """
    products = class_probs * factors[:, None]  # (P, K)
    passes = (products if filter_by_product else class_probs) > threshold
    points, labels = passes.nonzero(as_tuple=True)  # (N), (N)
    scores = products[points, labels]
    best = _best(scores, limit)
    return scores[best], points[best], labels[best]


def best_points(class_probs: Tensor, factors: Tensor, limit: int | None) -> Tensor:
    """Indices of the ``limit`` points of one level with the best product, or of all points.

    Tensor[P, K], Tensor[P] -> LongTensor[min(P, limit)]; in grid order if nothing is cut.
    """
    ranked = class_probs.amax(dim=1) * factors
    if _keeps_all(ranked, limit):
        return torch.arange(ranked.shape[0], device=ranked.device)
    return ranked.topk(at_most(ranked, limit)).indices


def _best(scores: Tensor, limit: int | None) -> Tensor | slice:
    """Places of the ``limit`` best scores Tensor[N], in their order; all without a limit."""
    if _keeps_all(scores, limit):
        return slice(None)
    return scores.topk(at_most(scores, limit)).indices.sort().values


def _keeps_all(scores: Tensor, limit: int | None) -> bool:
    """Whether a limit cuts nothing off; of a graph only where there is none."""
    if limit is None or limit < 0:
        return True
    return not torch.jit.is_tracing() and len(scores) <= limit
