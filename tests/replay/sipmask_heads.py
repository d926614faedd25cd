"""SipMask heads with recorded weights: what the originals were built with, by generation."""

import json
import zlib
from collections.abc import Callable

import numpy as np
import torch
from mmdet.registry import MODELS
from torch import Tensor

from mmrefine.checkpoint import rename
from mmrefine.sipmask.box_head import SipMaskBBoxHead
from mmrefine.sipmask.checkpoint import RULES, convert_benchmark, convert_mmdet
from mmrefine.sipmask.mask_head import SipMaskHead

from .golden import Golden

# What released weights were trained and tested with; the configs set the same.
MMDET_BOX_HEAD = {
    'relu_boxes': False,
    'area_offset': 1.0,
    'count_images': True,
    'sync_normalizers': False,
    'loss_bbox': {'type': 'LtrbIoULoss', 'kind': 'iou', 'offset': 1.0},
}
MMDET_MASK_HEAD = {
    'center_pixels': False,
    'sampling': {'keep_inverted': True, 'iou_offset': 1.0},
}
MMDET_ACCURATE = {
    'nms_pre': 1000,
    'score_thr': 0.05,
    'nms': {'type': 'greedy', 'iou_threshold': 0.5, 'offset': 1},
    'max_per_img': 100,
    'clip_offset': 1,
    'nms_in_original': True,
    'scale': 'floor',
    'mask_thr': 0.4,
}
MMDET_REAL_TIME = {
    **MMDET_ACCURATE,
    'score_thr': 0.1,
    'nms': {'type': 'fast', 'iou_threshold': 0.5, 'top_k': 200},
    'scale': 'floor_single',
}
BENCHMARK_BOX_HEAD = {
    'conv_bias': True,
    'align_bias': True,
    'area_offset': 1.0,
    'loss_bbox': {'type': 'LtrbIoULoss', 'kind': 'giou', 'offset': 1.0},
}
BENCHMARK_MASK_HEAD = {
    'center_pixels': False,
    'image_masks': True,
    'sampling': {
        'keep_inverted': True,
        'iou_offset': 1.0,
        'weight_eps': 0.0,
        'nms_threshold': 0.9,
    },
    'halve_above': 1.0,
}
BENCHMARK_TEST = {
    'nms_pre': 1000,
    'score_thr': 0.05,
    'candidates': 'pairs',
    'score_sqrt': True,
    'nms': {'type': 'greedy', 'iou_threshold': 0.6, 'offset': 1},
    'max_per_img': 100,
    'clip_offset': 1,
    'scale': 'floor_min',
    'mask_thr': 0.4,
}


def settings(golden: Golden) -> dict:
    """The recorded settings, stored as JSON bytes."""
    return json.loads(bytes(golden['cfg/json'])) if 'cfg/json' in golden else {}


class Replay:
    """The two heads with recorded weights.

    Args:
        box: The detection head.
        mask: The mask head.
        weights: Recorded weights by original name, without ``prefix``.
        prefix: What the names of a whole checkpoint begin with.
        convert: Renames such a checkpoint.
        device: Where the heads go.
    """

    def __init__(
        self,
        box: SipMaskBBoxHead,
        mask: SipMaskHead,
        weights: dict[str, Tensor],
        prefix: str,
        convert: Callable,
        device: torch.device,
    ) -> None:
        self.box, self.mask = box.to(device), mask.to(device)
        self.prefix = prefix
        heads = torch.nn.ModuleDict({'bbox_head': self.box, 'mask_head': self.mask})
        renamed = convert({f'{prefix}{key}': value for key, value in weights.items()})
        heads.load_state_dict(renamed, strict=True)
        self.parameters = dict(heads.named_parameters())

    def parameter(self, original: str) -> Tensor | None:
        """Our parameter of an original name; None for those the original has but never uses."""
        return self.parameters.get(rename(f'{self.prefix}{original}', RULES))


def box_head(golden: Golden, options: dict) -> SipMaskBBoxHead:
    """A detection head of the recorded size; unrecorded sizes are the published ones."""
    cfg = settings(golden)
    channels = cfg.get('feat_channels', 256)
    sizes = {
        'num_classes': cfg.get('num_fg_classes', 80),
        'in_channels': channels,
        'feat_channels': channels,
        'stacked_convs': cfg.get('stacked_convs', 4),
    }
    if not cfg.get('group_norm', True):
        sizes['norm_cfg'] = None
    return MODELS.build({'type': 'SipMaskBBoxHead', **options, **sizes})


def mask_head(golden: Golden, options: dict) -> SipMaskHead:
    """A mask head of the recorded size."""
    cfg = settings(golden)
    sizes = {
        'in_channels': cfg.get('feat_channels', 256),
        'mid_channels': cfg.get('mask_mid_channels', 512),
        'rescoring': cfg.get('rescoring', False),
        'num_classes': cfg.get('num_fg_classes', 80),
    }
    return MODELS.build({'type': 'SipMaskHead', **options, **sizes})


def mmdet_replay(golden: Golden, weights: dict, device: torch.device) -> Replay:
    """Heads of the mmdet generation with the recorded settings."""
    heads = box_head(golden, MMDET_BOX_HEAD), mask_head(golden, MMDET_MASK_HEAD)
    return Replay(*heads, weights, 'bbox_head.', convert_mmdet, device)


def benchmark_replay(golden: Golden, device: torch.device) -> Replay:
    """Heads of the benchmark generation with the recorded settings."""
    heads = box_head(golden, BENCHMARK_BOX_HEAD), mask_head(golden, BENCHMARK_MASK_HEAD)
    return Replay(*heads, golden.state_dict(), 'rpn.head.', convert_benchmark, device)


def mmdet_shapes(
    classes: int = 80, channels: int = 256, middle: int = 512
) -> dict[str, tuple[int, ...]]:
    """Shapes of the published accurate head by original names."""
    shapes: dict[str, tuple[int, ...]] = {}
    towers = [f'cls_convs.{n}' for n in range(3)] + [f'reg_convs.{n}' for n in range(4)]
    for tower in towers:
        shapes[f'{tower}.conv.weight'] = (channels, channels, 3, 3)
        shapes[f'{tower}.gn.weight'] = shapes[f'{tower}.gn.bias'] = (channels,)
    predictors = {
        'fcos_cls': (classes, channels, 3, 3),
        'fcos_reg': (4, channels, 3, 3),
        'fcos_centerness': (1, channels, 3, 3),
        'sip_cof': (128, channels, 3, 3),
        'sip_mask_lat': (32, middle, 3, 3),
        'sip_mask_lat0': (middle, 3 * channels, 1, 1),
    }
    for name, shape in predictors.items():
        shapes[f'{name}.weight'], shapes[f'{name}.bias'] = shape, shape[:1]
    shapes |= {f'scales.{level}.scale': () for level in range(5)}
    shapes['feat_align.conv_offset.weight'] = (72, 4, 1, 1)
    shapes['feat_align.conv_adaption.weight'] = (channels, channels, 3, 3)
    shapes['feat_align.norm.weight'] = shapes['feat_align.norm.bias'] = (channels,)
    return shapes


DRAWS = (
    # (part of the name, mean, standard deviation); the first match counts
    ('gn.weight', 1.0, 0.1),
    ('norm.weight', 1.0, 0.1),
    ('gn.bias', 0.0, 0.1),
    ('norm.bias', 0.0, 0.1),
    ('scale', 1.0, 0.05),
    ('conv_offset.weight', 0.0, 0.12),
    ('fcos_cls.weight', 0.0, 0.05),
    ('fcos_cls.bias', -3.4, 0.1),
    ('fcos_reg.weight', 0.0, 0.06),
    ('fcos_reg.bias', 3.0, 0.2),
    ('fcos_centerness.weight', 0.0, 0.05),
    ('fcos_centerness.bias', 0.0, 0.1),
    ('sip_cof.weight', 0.0, 0.04),
    ('sip_cof.bias', 0.0, 0.05),
)


def drawn_weight(key: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """The weight that the recording drew for an original name."""
    state = np.random.RandomState((seed * 1000003 + zlib.crc32(key.encode())) % 2**32)
    normal = state.standard_normal(shape)
    fan_in = float(np.prod(shape[1:])) if len(shape) > 1 else 1.0
    default = (0.0, 0.05 if key.endswith('bias') else (2 / fan_in) ** 0.5)
    mean, deviation = next((draw[1:] for draw in DRAWS if draw[0] in key), default)
    value = np.round((mean + deviation * normal) * 4096) / 4096
    return torch.from_numpy(np.asarray(value, dtype=np.float32))
