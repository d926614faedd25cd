"""A SipMask detector small enough for unit tests, and input for it."""

from typing import Any

import numpy as np
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData

CHANNELS = 32
# 1 x 1 maps need more than one channel per group.
NORM = {'type': 'GN', 'num_groups': 8}


def tiny_config(
    box: dict | None = None, mask: dict | None = None, test: dict | None = None
) -> dict:
    """Config of the tiny detector; the arguments change single settings."""
    return {
        'type': 'SipMask',
        'backbone': {
            'type': 'ResNet', 'depth': 18, 'base_channels': 8, 'norm_eval': False,
        },
        'neck': {
            'type': 'FPN', 'in_channels': [8, 16, 32, 64], 'out_channels': CHANNELS,
            'start_level': 1,
            'add_extra_convs': 'on_output', 'num_outs': 5, 'relu_before_extra_convs': True,
        },
        'bbox_head': {
            'type': 'SipMaskBBoxHead', 'num_classes': 3, 'in_channels': CHANNELS,
            'feat_channels': CHANNELS, 'stacked_convs': 2, 'num_bases': 8, 'norm_cfg': NORM,
            **(box or {}),
        },
        'mask_head': {
            'type': 'SipMaskHead', 'in_channels': CHANNELS, 'mid_channels': 16, 'num_bases': 8,
            **(mask or {}),
        },
        'test_cfg': {
            'nms_pre': 100, 'score_thr': 0.05, 'nms': {'type': 'greedy', 'iou_threshold': 0.5},
            'max_per_img': 20, 'mask_thr': 0.4, **(test or {}),
        },
    }  # fmt: skip


def tiny_detector(**options: Any) -> torch.nn.Module:
    """The detector with fixed random weights, eager to detect."""
    torch.manual_seed(0)
    detector = MODELS.build(tiny_config(**options))
    with torch.no_grad():
        detector.bbox_head.conv_cls.bias.fill_(-0.5)
        detector.bbox_head.conv_reg.bias.fill_(1.5)
        detector.bbox_head.conv_coeff.weight.mul_(20)
        detector.bbox_head.feat_align.conv_offset.weight.normal_(std=0.05)
    return detector


def ellipses(boxes: list[list[float]], height: int, width: int) -> np.ndarray:
    """Masks uint8 array[G, height, width] that fill the boxes with ellipses."""
    masks = np.zeros((len(boxes), height, width), dtype=np.uint8)
    ys, xs = np.mgrid[:height, :width] + 0.5
    for mask, (x1, y1, x2, y2) in zip(masks, boxes):
        rx, ry = max((x2 - x1) / 2, 0.5), max((y2 - y1) / 2, 0.5)
        mask[((xs - (x1 + x2) / 2) / rx) ** 2 + ((ys - (y1 + y2) / 2) / ry) ** 2 <= 1] = 1
    return masks


def sample(
    boxes: list[list[float]], size: tuple[int, int] = (128, 160), **meta: Any
) -> DetDataSample:
    """Annotated image of ``size`` (h, w) whose objects are ellipses in ``boxes``."""
    data = DetDataSample(metainfo={
        'img_shape': size, 'ori_shape': size, 'batch_input_shape': size, 'pad_shape': size,
        'scale_factor': (1.0, 1.0), **meta,
    })  # fmt: skip
    data.gt_instances = InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        labels=torch.arange(len(boxes)) % 3,
        masks=BitmapMasks(ellipses(boxes, *size), *size),
    )
    data.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0).long())
    return data


def images(samples: list[DetDataSample]) -> torch.Tensor:
    """Random pictures Tensor[B, 3, H, W] of the samples' size."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(len(samples), 3, *samples[0].batch_input_shape, generator=generator)
