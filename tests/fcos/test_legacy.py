"""Annotations as the originals read them."""

import numpy as np
import torch
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks, PolygonMasks

from mmrefine.fcos import InclusiveBoxes, InclusiveFlip


def test_boxes_end_at_their_last_pixel_and_never_invert():
    boxes = HorizontalBoxes(torch.tensor([[3.0, 4, 10, 9], [5, 5, 5.5, 20]]))
    results = InclusiveBoxes()({'gt_bboxes': boxes})
    assert results['gt_bboxes'].tensor.tolist() == [[3, 4, 9, 8], [5, 5, 5, 19]]
    assert boxes.tensor[0, 2] == 10


def test_images_without_boxes_pass():
    results = InclusiveBoxes()({'gt_bboxes': HorizontalBoxes(torch.zeros(0, 4))})
    assert results['gt_bboxes'].tensor.shape == (0, 4)


def flipped(masks, direction: str = 'horizontal') -> dict:
    boxes = HorizontalBoxes(torch.tensor([[3.0, 4, 9, 8]]))
    image = np.zeros((12, 20, 3), np.uint8)
    return InclusiveFlip(1.0, direction)({'img': image, 'gt_bboxes': boxes, 'gt_masks': masks})


def test_inclusive_boxes_and_polygons_flip_to_their_last_pixel():
    """x1 becomes w - x2 - 1 as in the originals; bitmaps need no correction."""
    polygons = PolygonMasks([[np.array([3.0, 4, 10, 4, 10, 9])]], 12, 20)
    results = flipped(polygons)
    assert results['gt_bboxes'].tensor.tolist() == [[20 - 9 - 1, 4, 20 - 3 - 1, 8]]
    assert results['gt_masks'].masks[0][0].tolist() == [16, 4, 9, 4, 9, 9]
    assert flipped(polygons, 'vertical')['gt_bboxes'].tensor.tolist() == [[3, 3, 9, 7]]
    assert flipped(polygons, 'vertical')['gt_masks'].masks[0][0].tolist() == [3, 7, 10, 7, 10, 2]


def test_flipped_boxes_frame_flipped_bitmaps():
    bitmap = np.zeros((1, 12, 20), np.uint8)
    bitmap[0, 4:9, 3:10] = 1
    results = flipped(BitmapMasks(bitmap, 12, 20))
    rows, columns = results['gt_masks'].masks[0].nonzero()
    box = [columns.min(), rows.min(), columns.max(), rows.max()]
    assert results['gt_bboxes'].tensor[0].tolist() == box


def test_nothing_flips_without_boxes_and_masks():
    results = InclusiveFlip(1.0)({'img': np.arange(6, dtype=np.uint8).reshape(1, 2, 3)})
    assert results['img'][0, :, 0].tolist() == [3, 0] and results['flip']
