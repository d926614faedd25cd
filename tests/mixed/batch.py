"""Two small pictures with objects of all sizes, as a detector gets them after its preprocessor."""

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData, PixelData
from torch import Tensor

SIDE = 128
# one object per pyramid level: largest distance from a point on it 60, 28, 20, 12 and 8 pixels
BOXES = (
    (4, 4, 124, 120),
    (10, 10, 60, 50),
    (66, 4, 100, 34),
    (96, 60, 116, 80),
    (20, 80, 30, 90),
)


def samples(semantic_classes: int = 5) -> list[DetDataSample]:
    """An image with every object, and one with two of them and a smaller original."""
    return [_sample(BOXES, SIDE, semantic_classes), _sample(BOXES[:2], SIDE // 2, semantic_classes)]


def images() -> Tensor:
    """Normalised noise for ``samples``: Tensor[2, 3, 128, 128]."""
    return torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def _sample(
    boxes: tuple[tuple[int, ...], ...], original: int, semantic_classes: int
) -> DetDataSample:
    masks = np.zeros((len(boxes), SIDE, SIDE), np.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes):
        mask[y1:y2, x1:x2] = 1
    size, ratio = (SIDE, SIDE), SIDE / original
    data = DetDataSample(
        metainfo=dict(
            img_id=0,
            img_shape=size,
            pad_shape=size,
            batch_input_shape=size,
            ori_shape=(original, original),
            scale_factor=(ratio, ratio),
        )
    )
    data.gt_instances = InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float32),
        labels=torch.arange(len(boxes)) % 4,
        masks=BitmapMasks(masks, SIDE, SIDE),
    )
    data.ignored_instances = InstanceData(
        bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long)
    )
    stuff = torch.arange(SIDE).view(1, 1, SIDE).expand(1, SIDE, SIDE) // 8 % semantic_classes
    data.gt_sem_seg = PixelData(sem_seg=stuff)
    return data
