"""EmbedMask detectors small enough for unit tests, and batches for them."""

from typing import Any

import numpy as np
import torch
from locations import ROOT
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import Tensor, nn

VARIANTS = ('v1', 'v2', 'v3', 'adet')
NAMES = dict(
    v1='embedmask-v1_r50_fpn_1x_coco',
    v2='embedmask-v2_r50_fpn_1x_coco',
    v3='embedmask_r50_fpn_1x_coco',
    adet='embedmask-adet_r50_fpn_ms-1x_coco',
)


def tiny_config(variant: str = 'v3', classes: int = 3) -> Config:
    """The published config of a generation with a quarter of the width and ResNet-18."""
    config = Config.fromfile(ROOT / 'configs' / 'embedmask' / f'{NAMES[variant]}.py')
    model = config.model
    model.backbone.update(
        depth=18, base_channels=8, style='pytorch', frozen_stages=-1, norm_eval=False, init_cfg=None
    )
    model.backbone.norm_cfg.requires_grad = True
    model.neck.update(in_channels=[8, 16, 32, 64], out_channels=64)
    model.bbox_head.update(
        num_classes=classes, in_channels=64, feat_channels=64, num_cls_convs=1, num_reg_convs=1
    )
    if model.bbox_head.get('proposal', {}).get('reduce_channels'):
        model.bbox_head.proposal.reduce_channels = 16
    model.mask_head.update(num_classes=classes, in_channels=64, feat_channels=64, num_convs=1)
    return config


def tiny_detector(
    variant: str = 'v3', classes: int = 3, seed: int = 0, **test_cfg: Any
) -> nn.Module:
    """A detector of that generation; by default almost every point is a detection."""
    torch.manual_seed(seed)
    model = tiny_config(variant, classes).model
    model.test_cfg.update(score_thr=0.0, max_per_img=6, **test_cfg)
    detector = MODELS.build(model)
    detector.init_weights()
    with torch.no_grad():
        # fresh heads predict empty boxes; about three strides to each side make detections
        detector.bbox_head.conv_reg.bias.fill_(3.0)
        for name, parameter in detector.named_parameters():
            if 'conv_embed' in name:  # adet's merged branch begins wider than the towers
                parameter.mul_(0.1 if variant == 'adet' else 4)
    return detector


def sample(
    boxes: list[list[float]], size: tuple[int, int] = (96, 128), labels: list[int] | None = None
) -> DetDataSample:
    """An image with rectangular objects; boxes in pixels."""
    height, width = size
    masks = np.zeros((len(boxes), height, width), dtype=np.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes):
        mask[int(y1) : int(y2), int(x1) : int(x2)] = 1
    labels = [i % 3 for i in range(len(boxes))] if labels is None else labels
    gt = InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        labels=torch.tensor(labels, dtype=torch.long),
        masks=BitmapMasks(masks, height, width),
    )
    meta = dict(
        img_shape=size,
        ori_shape=size,
        pad_shape=size,
        batch_input_shape=size,
        scale_factor=(1.0, 1.0),
        img_id=0,
    )
    return DetDataSample(gt_instances=gt, metainfo=meta)


def images(samples: list[DetDataSample], seed: int = 0) -> Tensor:
    """Pixels for the samples, all of the first one's size."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(samples), 3, *samples[0].img_shape, generator=generator) * 50


def finite(losses: dict[str, Tensor]) -> bool:
    """Whether every loss is a finite number."""
    return all(bool(value.isfinite()) for value in losses.values())
