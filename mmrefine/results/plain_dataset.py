"""Ground truth taken from data samples, for data sets without a COCO file."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .ground_truth import GroundTruth, Id
from .predictions import mask_counts, to_numpy


def image_truth(sample: Mapping, size: tuple[int, int]) -> dict[str, Any]:
    """Take the annotations of one image of ``size`` (h, w).

    The sample has ``instances`` as data sets write them (``bbox`` x1, y1, x2, y2, ``bbox_label``,
    ``ignore_flag``, perhaps ``mask``), or ``gt_instances`` and ``ignored_instances`` from a
    pipeline that loads annotations after resizing.
    """
    if 'instances' in sample:
        objects = [_from_instance(i) for i in sample['instances']]
    elif 'gt_instances' in sample:
        objects = list(_from_tensors(sample['gt_instances'], size, crowd=False))
        objects += _from_tensors(sample.get('ignored_instances', {}), size, crowd=True)
    else:
        raise ValueError(
            f'image {sample["img_id"]!r} has no annotations: give the evaluator ann_file, or load '
            'annotations in the test pipeline (LoadAnnotations after Resize)'
        )
    return {'size': size, 'objects': objects}


def _from_instance(instance: Mapping) -> dict:
    found = {
        'box': [float(v) for v in instance['bbox']],
        'label': int(instance['bbox_label']),
        'crowd': int(instance.get('ignore_flag', 0)),
    }
    if instance.get('mask'):
        found['segmentation'] = instance['mask']
    return found


def _from_tensors(instances: Mapping, size: tuple[int, int], crowd: bool) -> list[dict]:
    if not len(instances) or 'labels' not in instances:
        return []
    boxes, labels = to_numpy(instances['bboxes']), to_numpy(instances['labels'])
    found = [
        {'box': b.tolist(), 'label': int(i), 'crowd': int(crowd)} for b, i in zip(boxes, labels)
    ]
    if 'masks' in instances:
        masks = instances['masks']
        dense = masks.to_ndarray().astype(np.uint8) if hasattr(masks, 'to_ndarray') else masks
        for entry, counts in zip(found, mask_counts(dense, size, 'ground truth')):
            entry['segmentation'] = {'size': list(size), 'counts': counts}
    return found


def truth_of_images(
    truths: Mapping[Id, dict], classes: Sequence[str], name: str = 'the data set'
) -> GroundTruth:
    """Put the images together, image id -> result of ``image_truth``; category ids are the
    labels."""
    images, annotations = [], []
    for image in sorted(truths):
        h, w = truths[image]['size']
        images.append({'id': image, 'height': h, 'width': w})
        for entry in truths[image]['objects']:
            x1, y1, x2, y2 = entry['box']
            annotation = {
                'id': len(annotations) + 1,
                'image_id': image,
                'category_id': entry['label'],
                'bbox': [x1, y1, x2 - x1, y2 - y1],
                'iscrowd': entry['crowd'],
            }
            if 'segmentation' in entry:
                annotation['segmentation'] = entry['segmentation']
            annotations.append(annotation)
    categories = [{'id': i, 'name': label} for i, label in enumerate(classes)]
    return GroundTruth.from_dict(
        {'images': images, 'annotations': annotations, 'categories': categories}, name=name
    )
