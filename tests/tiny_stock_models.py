"""MMDetection's own configs, shrunk until they run in milliseconds."""

from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.hub import get_config
from torch import nn

NARROW = {80: 3, 256: 16, 1024: 32}


def _shrink(node: Any) -> None:
    """Replace widths and class numbers in place."""
    for item in node if isinstance(node, list) else [node]:
        if not isinstance(item, dict):
            continue
        for key, value in item.items():
            if (key.endswith('channels') or key == 'num_classes') and value in NARROW:
                item[key] = NARROW[value]
            elif key == 'num_convs':
                item[key] = 1
            elif isinstance(value, (dict, list)):
                _shrink(value)


def tiny_stock_config(name: str) -> Config:
    """Read ``mmdet::NAME.py`` and make it tiny."""
    config = get_config(f'mmdet::{name}.py')
    model = config.model
    _shrink(model.roi_head)
    _shrink(model.rpn_head)
    model.backbone.update(depth=18, base_channels=8, init_cfg=None)
    model.neck.update(in_channels=[8, 16, 32, 64], out_channels=16)
    model.test_cfg.rpn.max_per_img = 30
    model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=20)
    return config


def tiny_stock_model(name: str) -> nn.Module:
    """Build the tiny model with seeded random weights, ready to predict."""
    torch.manual_seed(0)
    model = MODELS.build(ConfigDict(tiny_stock_config(name).model))
    model.init_weights()
    return model.eval()
