"""Ground truth taken from data samples, for data sets without a COCO file."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .ground_truth import GroundTruth, Id
from .predictions import mask_counts, to_numpy


def image_truth(sample: Mapping, size: tuple[int, int]) -> dict[str, Any]:
    """Take the annotations of one image of ``size`` (h, w); category ids are the labels.

    The sample has ``instances`` as data sets write them (``bbox`` x1, y1, x2, y2, ``bbox_label``,
    ``ignore_flag``, perhaps ``mask``), or ``gt_instances`` and ``ignored_instances`` from a
    pipeline that loads annotations after resizing.
    """
    if 'instances' in sample:
        objects = [
            _annotation(i['bbox'], i['bbox_label'], i.get('ignore_flag', 0), i.get('mask'))
            for i in sample['instances']
        ]
    elif 'gt_instances' in sample:
        objects = list(_from_tensors(sample['gt_instances'], size, crowd=0))
        objects += _from_tensors(sample.get('ignored_instances', {}), size, crowd=1)
    else:
        raise ValueError(
            f'image {sample["img_id"]!r} has no annotations: give the evaluator ann_file, or load '
            'annotations in the test pipeline (LoadAnnotations after Resize)'
        )
    return {'size': size, 'objects': objects}


def _from_tensors(instances: Mapping, size: tuple[int, int], crowd: int) -> list[dict]:
    if not len(instances) or 'labels' not in instances:
        return []
    boxes, labels = to_numpy(instances['bboxes']), to_numpy(instances['labels'])
    rles: list[dict | None] = [None] * len(labels)
    if 'masks' in instances:
        masks = instances['masks']
        dense = masks.to_ndarray().astype(np.uint8) if hasattr(masks, 'to_ndarray') else masks
        counts = mask_counts(dense, size, 'ground truth')
        rles = [{'size': list(size), 'counts': one} for one in counts]
    return [_annotation(b, i, crowd, rle) for b, i, rle in zip(boxes, labels, rles)]


def _annotation(corners: Sequence, label: int, crowd: int, segmentation: Any) -> dict:
    x1, y1, x2, y2 = (float(value) for value in corners)
    box = [x1, y1, x2 - x1, y2 - y1]
    annotation = {'category_id': int(label), 'bbox': box, 'iscrowd': int(crowd)}
    return {**annotation, 'segmentation': segmentation} if segmentation else annotation


def truth_of_images(
    truths: Mapping[Id, dict], classes: Sequence[str], name: str = 'the data set'
) -> GroundTruth:
    """Put the images together, image id -> result of ``image_truth``."""
    images, annotations = [], []
    for image in sorted(truths):
        h, w = truths[image]['size']
        images.append({'id': image, 'height': h, 'width': w})
        for entry in truths[image]['objects']:
            annotations.append({**entry, 'id': len(annotations) + 1, 'image_id': image})
    categories = [{'id': i, 'name': label} for i, label in enumerate(classes)]
    return GroundTruth.from_dict(
        {'images': images, 'annotations': annotations, 'categories': categories}, name=name
    )
