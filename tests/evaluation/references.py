"""Scores by the reference tools themselves: pycocotools, lvis, YouTube-VIS, cityscapesScripts.

Every function returns numbers by the names that ``evaluate`` gives them, and AP by category id.
"""

import io
import json
import logging
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation.scenes import reference_band
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmrefine.evaluation import numpy_names  # noqa: F401  (for the official code)
from mmrefine.evaluation.boundary import band_width
from mmrefine.evaluation.cityscapes import import_engine

Scores = tuple[dict[str, float], dict[int, float]]
# CocoMetric's names of the same numbers, with the caps 1, 10, 100
STOCK_NAMES = {
    'AP': 'mAP', 'AP50': 'mAP_50', 'AP75': 'mAP_75',
    'AP_s': 'mAP_s', 'AP_m': 'mAP_m', 'AP_l': 'mAP_l',
    'AR1': 'AR@1', 'AR10': 'AR@10', 'AR100': 'AR@100',
    'AR_s': 'AR_s@100', 'AR_m': 'AR_m@100', 'AR_l': 'AR_l@100',
}  # fmt: skip


def band_rle(rle: dict, ratio: float = 0.02) -> dict:
    """The inner band of a mask, by its definition on the whole frame."""
    mask = coco_mask.decode(rle)
    band = reference_band(mask, band_width(mask.shape, ratio))
    return coco_mask.encode(np.asfortranarray(band))


class BoundaryCOCOeval(COCOeval):
    """boundary-iou-api's rule: the smaller of mask and boundary IoU; crowds keep the mask IoU."""

    ratio = 0.02

    def computeIoU(self, imgId: int, catId: int) -> Any:
        ious = super().computeIoU(imgId, catId)
        gts, dts = self._gts[imgId, catId], self._dts[imgId, catId]
        if len(gts) == 0 or len(dts) == 0:
            return ious
        order = np.argsort([-d['score'] for d in dts], kind='mergesort')[: len(ious)]
        bands = [
            [band_rle(entry['segmentation'], self.ratio) for entry in part]
            for part in ([dts[i] for i in order], gts)
        ]
        objects = np.array([g['iscrowd'] == 0 for g in gts])
        lower = np.minimum(ious, coco_mask.iou(*bands, [0] * len(gts)))
        return np.where(objects, lower, ious)


def copied(value: Any) -> Any:
    """A copy: the tools write into what they get."""
    return json.loads(json.dumps(value))


def coco_results(gt: COCO, results: list) -> COCO:
    """``loadRes``, which takes no empty list."""
    if results:
        return gt.loadRes(copied(results))
    found = COCO()
    found.dataset = {**gt.dataset, 'annotations': []}
    found.createIndex()
    return found


def mean(values: np.ndarray) -> float:
    valid = values[values > -1]
    return float(valid.mean()) if valid.size else -1.0


def named(
    precision: np.ndarray, recall: np.ndarray, ids: list, areas: list, caps: list, thresholds: Any
) -> Scores:
    """Numbers of precision[T, R, K, A, M] and recall[T, K, A, M]."""
    numbers = {'AP': mean(precision[:, :, :, 0, -1])}
    for percent in (50, 75):
        at = np.isclose(thresholds, percent / 100)
        if at.any():
            numbers[f'AP{percent}'] = mean(precision[at][:, :, :, 0, -1])
    for a, name in list(enumerate(areas))[1:]:
        numbers[f'AP_{name}'] = mean(precision[:, :, :, a, -1])
        numbers[f'AR_{name}'] = mean(recall[:, :, a, -1])
    for m, cap in enumerate(caps):
        numbers[f'AR{cap}'] = mean(recall[:, :, 0, m])
    return numbers, {c: mean(precision[:, :, k, 0, -1]) for k, c in enumerate(ids)}


def coco_scores(truth: dict, results: list, iou_type: str, rules: Any) -> Scores:
    """pycocotools, for boundaries by boundary-iou-api's rule."""
    kind = BoundaryCOCOeval if iou_type == 'boundary' else COCOeval
    with redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = copied(truth)
        gt.createIndex()
        run = kind(gt, coco_results(gt, results), 'bbox' if iou_type == 'bbox' else 'segm')
        run.ratio = rules.dilation_ratio
        run.params.maxDets = list(rules.max_dets)
        run.params.iouThrs = np.array(rules.iou_thresholds)
        run.params.areaRng = [list(limits) for limits in rules.areas.values()]
        run.params.areaRngLbl = list(rules.areas)
        run.evaluate()
        run.accumulate()
    parts = run.eval['precision'], run.eval['recall'], run.params.catIds
    return named(*parts, list(rules.areas), list(rules.max_dets), rules.iou_thresholds)


def recall_scores(truth: dict, results: list, iou_type: str, numbers: list) -> dict[str, float]:
    """pycocotools without categories."""
    with redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = copied(truth)
        gt.createIndex()
        run = COCOeval(gt, coco_results(gt, results), iou_type)
        run.params.useCats = 0
        run.params.maxDets = numbers
        run.evaluate()
        run.accumulate()
    recall = run.eval['recall'][:, 0]  # thresholds x ranges x numbers
    found = {f'{iou_type}_AR@{n}': mean(recall[:, 0, i]) for i, n in enumerate(numbers)}
    for a, name in enumerate('sml', start=1):
        found[f'{iou_type}_AR_{name}@{numbers[-1]}'] = mean(recall[:, a, -1])
    return found


def lvis_scores(
    folder: Path, truth: dict, results: list, iou_type: str, max_dets: int = 300
) -> Scores:
    """lvis-api; `import mmrefine` supplies the np.float it still uses."""
    from lvis import LVIS, LVISEval, LVISResults

    logging.getLogger('lvis').setLevel(logging.ERROR)

    class BoundaryEval(LVISEval):
        def compute_iou(self, img_id: int, cat_id: int) -> Any:
            ious = super().compute_iou(img_id, cat_id)
            gts, dts = self._get_gt_dt(img_id, cat_id)
            if len(gts) == 0 or len(dts) == 0:
                return ious
            order = np.argsort([-d['score'] for d in dts], kind='mergesort')
            bands = [
                [band_rle(entry['segmentation']) for entry in part]
                for part in ([dts[i] for i in order], gts)
            ]
            return np.minimum(ious, coco_mask.iou(*bands, [0] * len(gts)))

    file = folder / 'truth.json'
    file.write_text(json.dumps(truth))
    gt = LVIS(str(file))
    dt = LVISResults(gt, copied(results), max_dets)
    kind = BoundaryEval if iou_type == 'boundary' else LVISEval
    run = kind(gt, dt, 'bbox' if iou_type == 'bbox' else 'segm')
    run.run()
    names = {'APs': 'AP_s', 'APm': 'AP_m', 'APl': 'AP_l', 'AR@300': 'AR'}
    kept = ('AP', 'AP50', 'AP75', 'APr', 'APc', 'APf', *names)
    numbers = {names.get(k, k): float(v) for k, v in run.get_results().items() if k in kept}
    precision = run.eval['precision'][:, :, :, 0]  # thresholds x recalls x categories
    ids = run.params.cat_ids
    return numbers, {c: mean(precision[:, :, k]) for k, c in enumerate(ids)}


def video_scores(truth: dict, results: list, rules: Any) -> Scores:
    """YouTube-VIS's own evaluation, as MMDetection carries it."""
    from mmdet.evaluation.functional import YTVIS, YTVISeval

    with redirect_stdout(io.StringIO()):
        gt = YTVIS(copied(truth))
        for annotation in gt.dataset['annotations']:
            areas = [a for a in annotation['areas'] if a]
            annotation['avg_area'] = float(np.mean(areas)) if areas else 0
        run = YTVISeval(gt, gt.loadRes(copied(results)), 'segm')
        run.params.vidIds = gt.getVidIds()
        run.params.maxDets = list(rules.max_dets)
        run.evaluate()
        run.accumulate()
    parts = run.eval['precision'], run.eval['recall'], run.params.catIds
    return named(*parts, list(rules.areas), list(rules.max_dets), rules.iou_thresholds)


def city_scores(folder: Path, tree: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """The official road; only its debug file is left out, which np.int64 breaks."""
    engine = import_engine()
    args = engine.CArgs()
    vars(args).update(vars(engine.args))
    args.JSONOutput, args.quiet = False, True
    args.gtInstancesFile = str(folder / 'cache.json')
    args.predictionPath = str(tree)
    truths = sorted((folder / 'gtFine').rglob('*instanceIds.png'))
    texts = [tree / f'{p.name.split("_gtFine")[0]}_leftImg8bit_pred.txt' for p in truths]
    monkeypatch.setattr(engine, 'writeDict2JSON', lambda *_: None)
    found = engine.evaluateImgLists(list(map(str, texts)), list(map(str, truths)), args)['averages']
    numbers = {'segm_AP': found['allAp'], 'segm_AP50': found['allAp50%']}
    for name, values in found['classes'].items():
        numbers[f'segm_AP/{name}'] = values['ap']
    return {name: -1.0 if np.isnan(v) else float(v) for name, v in numbers.items()}
