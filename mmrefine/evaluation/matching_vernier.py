"""Matching with vernier, an optional compiled engine, in its strict parity mode."""

import json
from typing import Any

import numpy as np

from mmrefine.results.detections import Detections
from mmrefine.results.ground_truth import GroundTruth

from .ap_table import APTable
from .matching import Progress, truth_flags
from .protocols import Rules

NO_BOX = [0.0, 0.0, 0.0, 0.0]  # vernier requires a box even where only masks are compared


def match_with_vernier(
    gt: GroundTruth,
    dt: Detections,
    scores: np.ndarray,
    areas: np.ndarray,
    iou_type: str,
    rules: Rules,
    progress: Progress,
) -> APTable:
    """Score detections with vernier; arguments and result as ``match_with_pycocotools``."""
    try:
        from vernier import instance as engine
    except ModuleNotFoundError as error:
        if error.name != 'vernier':
            raise
        raise ModuleNotFoundError(
            "backend='vernier' needs the package vernier: pip install vernier==0.5.4",
            name='vernier',
        ) from None
    if not rules.crowd_overlap and any(a['iscrowd'] for a in gt.annotations):
        raise ValueError(
            'vernier compares crowds by coverage only; score these tracks with '
            "backend='pycocotools'"
        )
    federated = rules.federated and gt.federation is not None
    if federated and any(a['ignore'] for a in gt.annotations):
        raise ValueError(
            'vernier counts annotations with ignore=1 as objects; score them with '
            "backend='pycocotools'"
        )
    truth = json.dumps(_coco_json(gt, iou_type != 'bbox', federated)).encode()
    ratio = {'dilation_ratio': rules.dilation_ratio} if iou_type == 'boundary' else {}
    read = engine.CocoDataset.from_lvis_json if federated else engine.CocoDataset.from_json
    grid = getattr(engine, f'evaluate_{iou_type}_grid')(
        read(truth),
        [_entry(gt, dt, i, float(scores[i]), float(areas[i]), iou_type) for i in range(len(dt))],
        parity_mode='strict',
        max_dets_per_image=rules.max_dets[-1],
        use_cats=True,
        iou_thresholds=list(rules.iou_thresholds),
        area_ranges=engine.Breakdown.from_ranges(
            'area', [(name, float(a), float(b)) for name, (a, b) in rules.areas.items()]
        ),
        dt_area='supplied',
        **ratio,
    )
    found = grid.accumulate(list(rules.max_dets))
    for _ in gt.categories:
        progress()
    # vernier orders the categories by id.
    precision, recall = np.asarray(found.precision), np.asarray(found.recall)
    return APTable(precision, recall, sorted(gt.categories))


def _coco_json(gt: GroundTruth, masks: bool, federated: bool) -> dict:
    images: list[dict[str, Any]] = [
        {'id': i, 'height': h, 'width': w} for i, (h, w) in gt.sizes.items()
    ]
    categories: list[dict[str, Any]] = [
        {'id': i, 'name': name} for i, name in gt.categories.items()
    ]
    if federated and gt.federation is not None:
        # vernier refuses lists that contradict the annotations: absent categories with annotations
        # (lvis scores them all the same) and unfinished ones without (which count neither way).
        present = {(a['image_id'], a['category_id']) for a in gt.annotations}
        for image in images:
            i = image['id']
            unfinished = gt.federation.unfinished[i]
            absent = (c for c in gt.federation.absent[i] - unfinished if (i, c) not in present)
            image['neg_category_ids'] = sorted(absent)
            listed = (c for c in unfinished if (i, c) in present)
            image['not_exhaustive_category_ids'] = sorted(listed)
        for category in categories:
            category['frequency'] = gt.federation.frequency[category['id']]
    annotations = []
    for a in gt.annotations:
        entry = {k: a[k] for k in ('id', 'image_id', 'category_id', 'area')}
        entry |= {'bbox': a.get('bbox', NO_BOX), **truth_flags(a, federated)}
        if masks:
            counts = a['segmentation']['counts'].decode('ascii')
            entry['segmentation'] = {'size': a['segmentation']['size'], 'counts': counts}
        annotations.append(entry)
    return {'images': images, 'categories': categories, 'annotations': annotations}


def _entry(
    gt: GroundTruth, dt: Detections, i: int, score: float, area: float, iou_type: str
) -> dict[str, Any]:
    entry = {
        'id': i + 1,
        'image_id': dt.image_ids[i],
        'category_id': dt.category_ids[i],
        'bbox': dt.boxes[i].tolist() if iou_type == 'bbox' else NO_BOX,
        'score': score,
        'area': area,
    }
    if iou_type != 'bbox':
        entry['segmentation'] = {'size': list(gt.sizes[dt.image_ids[i]]), 'counts': dt.counts[i]}
    return entry
