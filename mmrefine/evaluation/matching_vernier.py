"""Matching with vernier, an optional compiled engine, in its strict parity mode."""

import json
from typing import Any

import numpy as np

from mmrefine.results.detections import Detections
from mmrefine.results.ground_truth import GroundTruth, Id

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
    # vernier reads no ids but whole numbers, and orders by them
    images, categories = (
        {key: number for number, key in enumerate(sorted(ids), 1)}
        for ids in (gt.sizes, gt.categories)
    )
    content = _coco_json(gt, images, categories, iou_type != 'bbox', federated)
    ratio = {'dilation_ratio': rules.dilation_ratio} if iou_type == 'boundary' else {}
    read = engine.CocoDataset.from_lvis_json if federated else engine.CocoDataset.from_json
    grid = getattr(engine, f'evaluate_{iou_type}_grid')(
        read(json.dumps(content).encode()),
        [
            {
                'id': i + 1,
                'image_id': images[dt.image_ids[i]],
                'category_id': categories[dt.category_ids[i]],
                'score': float(scores[i]),
                'area': float(areas[i]),
                **_shape(gt, dt, i, iou_type),
            }
            for i in range(len(dt))
        ],
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
    precision, recall = np.asarray(found.precision), np.asarray(found.recall)
    return APTable(precision, recall, list(categories))


def _coco_json(
    gt: GroundTruth,
    image_numbers: dict[Id, int],
    category_numbers: dict[Id, int],
    masks: bool,
    federated: bool,
) -> dict:
    """The ground truth as a COCO or LVIS file, its ids replaced by numbers."""
    images: dict[Id, dict[str, Any]] = {
        i: {'id': image_numbers[i], 'height': h, 'width': w} for i, (h, w) in gt.sizes.items()
    }
    categories: dict[Id, dict[str, Any]] = {
        i: {'id': category_numbers[i], 'name': name} for i, name in gt.categories.items()
    }
    if federated and gt.federation is not None:
        # vernier refuses lists that contradict the annotations: absent categories with annotations
        # (lvis scores them all the same) and unfinished ones without (which count neither way).
        present = {(a['image_id'], a['category_id']) for a in gt.annotations}
        for i, image in images.items():
            unfinished = gt.federation.unfinished[i]
            absent = gt.federation.absent[i] - unfinished
            for key, listed in (
                ('neg_category_ids', [c for c in absent if (i, c) not in present]),
                ('not_exhaustive_category_ids', [c for c in unfinished if (i, c) in present]),
            ):
                image[key] = sorted(category_numbers[c] for c in listed if c in categories)
        for c, category in categories.items():
            category['frequency'] = gt.federation.frequency[c]
    annotations = []
    for a in gt.annotations:
        entry = {'id': a['id'], 'area': a['area'], 'bbox': a.get('bbox', NO_BOX)}
        entry['image_id'] = image_numbers[a['image_id']]
        entry |= {'category_id': category_numbers[a['category_id']], **truth_flags(a, federated)}
        if masks:
            counts = a['segmentation']['counts'].decode('ascii')
            entry['segmentation'] = {'size': a['segmentation']['size'], 'counts': counts}
        annotations.append(entry)
    return {
        'images': list(images.values()),
        'categories': list(categories.values()),
        'annotations': annotations,
    }


def _shape(gt: GroundTruth, dt: Detections, i: int, iou_type: str) -> dict[str, Any]:
    """Box or mask of a detection."""
    if iou_type == 'bbox':
        return {'bbox': dt.boxes[i].tolist()}
    mask = {'size': list(gt.sizes[dt.image_ids[i]]), 'counts': dt.counts[i]}
    return {'bbox': NO_BOX, 'segmentation': mask}
