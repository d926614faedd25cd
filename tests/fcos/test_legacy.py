"""Annotations as the originals read them."""

import torch
from mmdet.structures.bbox import HorizontalBoxes

from mmrefine.fcos import InclusiveBoxes


def test_boxes_end_at_their_last_pixel_and_never_invert():
    boxes = HorizontalBoxes(torch.tensor([[3.0, 4, 10, 9], [5, 5, 5.5, 20]]))
    results = InclusiveBoxes()({'gt_bboxes': boxes})
    assert results['gt_bboxes'].tensor.tolist() == [[3, 4, 9, 8], [5, 5, 5, 19]]
    assert boxes.tensor[0, 2] == 10


def test_images_without_boxes_pass():
    results = InclusiveBoxes()({'gt_bboxes': HorizontalBoxes(torch.zeros(0, 4))})
    assert results['gt_bboxes'].tensor.shape == (0, 4)
