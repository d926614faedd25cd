"""Confusion counts by hand, and pictures of any number of classes."""

import numpy as np
import pytest

from mmrefine.evaluation import Detections, GroundTruth, evaluate
from mmrefine.evaluation.protocols import make_rules
from mmrefine.masks import encode
from mmrefine.visualization.instances import Instances
from mmrefine.visualization.score_pictures import (
    confusion_picture,
    count_confusions,
    precision_recall,
)


def squares(*corners: int) -> list[dict]:
    masks = np.zeros((len(corners), 40, 40), bool)
    for mask, corner in zip(masks, corners):
        mask[corner : corner + 8, corner : corner + 8] = True
    return list(encode(masks))


def test_every_object_and_prediction_is_counted_once() -> None:
    """Found; taken for another class; missed; found twice; where nothing is; inside a crowd."""
    truth = Instances(
        squares(0, 8, 16, 31), [5, 5, 9, 9], crowd=np.array([False, False, False, True])
    )
    found = Instances(
        squares(0, 0, 8, 24, 31), [5, 5, 9, 5, 9], np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    )
    counts = np.zeros((3, 3), int)
    count_confusions(truth, found, [5, 9], counts)
    assert counts.tolist() == [
        [1, 1, 0],  # the first found, the second taken for 9
        [0, 0, 1],  # the third missed
        [2, 0, 0],  # found twice, and nothing there
    ]
    count_confusions(Instances([], []), Instances([], [], np.zeros(0)), [5, 9], counts)
    assert counts.sum() == 5


@pytest.mark.parametrize('classes', [1, 3, 40])
def test_many_classes_are_cut_to_the_worst(classes: int) -> None:
    counts = np.diag(np.arange(classes + 1))
    counts[classes // 2, -1] = 7
    picture = confusion_picture(counts, [f'class {i}' for i in range(classes)])
    assert picture.dtype == np.uint8 and picture.std() > 5
    assert max(picture.shape) < 110 * (2.8 + 0.42 * 21) + 2


def test_curves_without_objects_or_detections_can_be_drawn() -> None:
    images = [{'id': 1, 'width': 40, 'height': 40}]
    categories = [{'id': 1, 'name': 'a'}]
    thing = {'id': 1, 'image_id': 1, 'category_id': 1, 'bbox': [0, 0, 8, 8], 'area': 64}
    thing |= {'iscrowd': 0, 'segmentation': [[0, 0, 8, 0, 8, 8, 0, 8]]}
    nothing = Detections([], [], np.zeros(0), np.zeros((0, 4)), [])
    for annotations in ([], [thing]):
        gt = GroundTruth.from_dict(
            {'images': images, 'categories': categories, 'annotations': annotations}
        )
        found = evaluate(gt, nothing, ('segm', 'boundary'))
        assert precision_recall(found.tables, make_rules('coco', None)).ndim == 3
