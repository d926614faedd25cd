"""A RefineMask detector small enough for unit tests, and batches for it."""

from typing import Any

import numpy as np
import torch
from locations import ROOT
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.config import Config, ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmrefine.refinemask.inference import FusedMasks, InferenceSettings

NARROW = dict(
    num_convs_instance=1,
    num_convs_semantic=1,
    conv_in_channels_instance=16,
    conv_in_channels_semantic=16,
    conv_out_channels_instance=24,
    conv_out_channels_semantic=16,
)


def tiny_head(kind: str = 'RefineMaskHead', **options: Any) -> nn.Module:
    """A narrow mask head."""
    return MODELS.build({**NARROW, 'num_classes': 3, **options, 'type': kind})


def tiny_detector(kind: str = 'RefineMaskHead', classes: int = 3, **test_cfg: Any) -> nn.Module:
    """Mask R-CNN boxes on a quarter-width ResNet-18 with a narrow RefineMask head."""
    config = Config.fromfile(ROOT / 'configs' / '_base_' / 'refinemask_compact.py')
    config.merge_from_dict(
        {
            'model.backbone.base_channels': 8,
            'model.neck.in_channels': [8, 16, 32, 64],
            'model.neck.out_channels': 16,
            'model.rpn_head.in_channels': 16,
            'model.rpn_head.feat_channels': 16,
            'model.roi_head.bbox_roi_extractor.out_channels': 16,
            'model.roi_head.bbox_head.in_channels': 16,
            'model.roi_head.bbox_head.fc_out_channels': 32,
            'model.roi_head.bbox_head.num_classes': classes,
            'model.roi_head.mask_roi_extractor.out_channels': 16,
            'model.test_cfg.rcnn.max_per_img': 6,
            'model.test_cfg.rcnn.score_thr': 0.0,
        }
    )
    model = config.model
    model.test_cfg.rcnn.update(test_cfg)
    model.roi_head.mask_head = ConfigDict(NARROW, type=kind)
    detector = MODELS.build(model)
    detector.init_weights()
    return detector


def fused_masks(
    roi_head: nn.Module, x: tuple[Tensor, ...], rois: Tensor, labels: Tensor
) -> list[FusedMasks]:
    """Fused masks of any RoIs under the settings of the RoI head's ``test_cfg``."""
    settings = InferenceSettings.of_config(roi_head.test_cfg, roi_head.mask_head.stage_sizes)
    inputs = roi_head.mask_inputs(x, rois)
    return roi_head.mask_head.fused_masks(*inputs, rois, labels, settings)


def probabilities(
    roi_head: nn.Module, x: tuple[Tensor, ...], rois: Tensor, labels: Tensor
) -> Tensor:
    """Probabilities of the only group of ``fused_masks``."""
    return fused_masks(roi_head, x, rois, labels)[0].logits.sigmoid()


def square_polygons(boxes: np.ndarray, height: int, width: int) -> PolygonMasks:
    """Masks that fill their boxes."""
    corners = [[np.array([a, b, c, b, c, d, a, d], dtype=np.float64)] for a, b, c, d in boxes]
    return PolygonMasks(corners, height, width)


def sample(
    boxes: list[list[float]], size: tuple[int, int] = (96, 128), polygons: bool = True
) -> DetDataSample:
    """Ground truth of rectangles with classes 0, 1, 2, 0, ..."""
    array = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    masks: PolygonMasks | BitmapMasks = square_polygons(array, *size)
    meta = dict(img_shape=size, ori_shape=size, pad_shape=size, batch_input_shape=size)
    data = DetDataSample(metainfo=dict(meta, scale_factor=(1.0, 1.0), img_id=0))
    data.gt_instances = InstanceData(
        bboxes=torch.from_numpy(array).float(),
        labels=torch.arange(len(array)) % 3,
        masks=masks if polygons else masks.to_bitmap(),
    )
    return data


def images(count: int, size: tuple[int, int] = (96, 128)) -> Tensor:
    """Normalised noise."""
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(count))


BOXES = [[8.0, 8.0, 60.0, 50.0], [50.0, 40.0, 120.0, 90.0], [70.0, 5.0, 100.0, 30.0]]
