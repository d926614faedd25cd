"""Matching with pycocotools, one category at a time.

Every category is matched by ``COCOeval`` separately, over the images that hold it. The numbers are
those of one run over all categories, but only one category is in memory at a time. LVIS's federated
rules and Boundary IoU are two small changes to the same engine.

Shapes:   N detections, D of one image and category, G its annotations; T, R, K, A, M as in
          ``ap_table``.
"""

import contextlib
import copy
import io
from collections import defaultdict
from collections.abc import Callable, Iterator

import numpy as np
from pycocotools.cocoeval import COCOeval

from mmrefine.results.detections import Detections
from mmrefine.results.ground_truth import GroundTruth, Id

from .ap_table import NOTHING, APTable
from .boundary import boundary_iou
from .protocols import Rules

Progress = Callable[[], None]


class CategoryEval(COCOeval):
    """COCOeval of one category whose annotations are handed over instead of looked up.

    Args:
        iou_type: ``'bbox'``, ``'segm'`` or ``'boundary'``.
        rules: The protocol.
        unfinished: Image id -> categories whose unmatched detections do not count (LVIS).
    """

    def __init__(self, iou_type: str, rules: Rules, unfinished: dict[Id, frozenset]) -> None:
        super().__init__(iouType='bbox' if iou_type == 'bbox' else 'segm')
        self.boundary_ratio = rules.dilation_ratio if iou_type == 'boundary' else None
        self.crowd_overlap = rules.crowd_overlap
        self.unfinished = unfinished
        self.params.maxDets = list(rules.max_dets)
        self.params.areaRng = [list(limits) for limits in rules.areas.values()]
        self.params.areaRngLbl = list(rules.areas)
        self.params.iouThrs = np.array(rules.iou_thresholds)

    def match(self, category: Id, gts: dict, dts: dict) -> None:
        """Match one category, from image id -> annotations and -> detections, best first:
        ``evalImgs``, area by area, image by image.
        """
        # Everything that COCOeval.evaluate would look up in COCO objects.
        images = sorted({*gts, *dts})
        self.params.imgIds, self.params.catIds = images, [category]
        self._gts = defaultdict(list, {(i, category): v for i, v in gts.items()})
        self._dts = defaultdict(list, {(i, category): v for i, v in dts.items()})
        self.ious = {(i, category): self.computeIoU(i, category) for i in images}
        most = self.params.maxDets[-1]
        self.evalImgs = [
            self.evaluateImg(i, category, area, most)
            for area in self.params.areaRng
            for i in images
        ]

    def run(self, category: Id, gts: dict, dts: dict) -> tuple[np.ndarray, np.ndarray]:
        """Match and accumulate; arguments as of ``match``.

        Returns:
            precision: float64 array[T, R, A, M].
            recall: float64 array[T, A, M].
        """
        self.match(category, gts, dts)
        self._paramsEval = copy.copy(self.params)
        with contextlib.redirect_stdout(io.StringIO()):
            self.accumulate()
        return self.eval['precision'][:, :, 0], self.eval['recall'][:, 0]

    def computeIoU(self, imgId: Id, catId: Id) -> np.ndarray | list:
        """Float array[D, G]; for boundaries the smaller of mask and boundary IoU."""
        gts = self._gts[imgId, catId]
        # Where iscrowd is set, the engine divides by the area of the detection, not of the union.
        if not self.crowd_overlap:
            self._gts[imgId, catId] = [{**g, 'iscrowd': 0} for g in gts]
        ious = super().computeIoU(imgId, catId)
        self._gts[imgId, catId] = gts
        if self.boundary_ratio is None or len(ious) == 0 or len(gts) == 0:
            return ious
        detected = [d['segmentation']['counts'] for d in self._dts[imgId, catId][: len(ious)]]
        return boundary_iou(
            ious,
            detected,
            [g['segmentation']['counts'] for g in gts],
            np.array([g['iscrowd'] for g in gts], bool),
            gts[0]['segmentation']['size'],
            self.boundary_ratio,
            min(float(self.params.iouThrs.min()), 1 - 1e-10),  # the bound of evaluateImg
        )

    def evaluateImg(self, imgId: Id, catId: Id, aRng: list[float], maxDet: int) -> dict | None:
        """Match one image; in categories not annotated to the end the unmatched do not count."""
        match = super().evaluateImg(imgId, catId, aRng, maxDet)
        if match is not None and catId in self.unfinished.get(imgId, ()):
            match['dtIgnore'] = match['dtIgnore'] | (match['dtMatches'] == 0)
        return match


def match_with_pycocotools(
    gt: GroundTruth,
    dt: Detections,
    scores: np.ndarray,
    areas: np.ndarray,
    iou_type: str,
    rules: Rules,
    progress: Progress,
) -> APTable:
    """Score detections with the reference engine.

    Args:
        gt, dt: With the boxes or masks that ``iou_type`` needs; only detections that count.
        scores, areas: float64 array[N]; areas in square pixels.
        iou_type: ``'bbox'``, ``'segm'`` or ``'boundary'``.
        rules: The protocol.
        progress: Called after every category.
    """
    unfinished = gt.federation.unfinished if rules.federated and gt.federation else {}
    evaluator = CategoryEval(iou_type, rules, unfinished)
    counts = len(gt.categories), len(rules.areas), len(rules.max_dets)  # K, A, M
    thresholds, levels = len(rules.iou_thresholds), len(evaluator.params.recThrs)
    precision = np.full((thresholds, levels, *counts), NOTHING)  # (T, R, K, A, M)
    recall = np.full((thresholds, *counts), NOTHING)  # (T, K, A, M)
    for k, (category, gts, dts) in enumerate(split_by_category(gt, dt, scores, areas, rules)):
        # Without annotations precision stays undefined, whatever was detected.
        if gts:
            precision[:, :, k], recall[:, k] = evaluator.run(category, gts, dts)
        progress()
    return APTable(precision, recall, list(gt.categories))


def split_by_category(
    gt: GroundTruth, dt: Detections, scores: np.ndarray, areas: np.ndarray, rules: Rules
) -> Iterator[tuple[Id, dict, dict]]:
    """Yield every category with its annotations and its detections by image, best first."""
    truth: dict = defaultdict(lambda: defaultdict(list))  # category -> image -> annotations
    for a in gt.annotations:
        flagged = {**a, **truth_flags(a, rules.federated)}
        truth[a['category_id']][a['image_id']].append(flagged)
    rows: dict = defaultdict(list)  # category -> its detections, equal scores in their given order
    for i in np.argsort(-scores, kind='stable').tolist():
        rows[dt.category_ids[i]].append(i)
    for category in gt.categories:
        dts: dict = defaultdict(list)
        for i in rows.get(category, ()):
            dts[dt.image_ids[i]].append(_entry(gt, dt, i, scores[i], areas[i]))
        yield category, truth.get(category, {}), dts


def truth_flags(annotation: dict, federated: bool) -> dict[str, int]:
    """Which annotations are crowds and which are ignored, as the official engines read them.

    COCO ignores exactly the crowds, whatever the file says; LVIS has no crowds but may ignore.
    """
    if federated:
        return {'iscrowd': 0, 'ignore': annotation['ignore']}
    return {'iscrowd': annotation['iscrowd'], 'ignore': annotation['iscrowd']}


def _entry(gt: GroundTruth, dt: Detections, i: int, score: float, area: float) -> dict:
    return {
        'id': i + 1,
        'image_id': dt.image_ids[i],
        'bbox': dt.boxes[i],
        'score': score,
        'area': area,
        'segmentation': {'size': gt.sizes[dt.image_ids[i]], 'counts': dt.counts[i]},
    }
