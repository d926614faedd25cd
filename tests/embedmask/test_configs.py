"""Configs build; optimiser, schedule and transforms do what the originals did."""

import numpy as np
import pytest
import torch
from locations import ROOT
from mmdet.registry import MODELS, TRANSFORMS
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from tiny_embedmask import tiny_config

CONFIGS = sorted((ROOT / 'configs' / 'embedmask').glob('embedmask*.py'))


@pytest.mark.parametrize('path', CONFIGS, ids=lambda p: p.stem)
def test_config_builds_with_the_package_alone(path):
    config = Config.fromfile(path)
    assert config.custom_imports == dict(imports=['mmrefine'], allow_failed_imports=False)
    with torch.device('meta'):
        detector = MODELS.build(config.model)
    assert detector.bbox_head.position() is not None


@pytest.mark.parametrize(
    ('name', 'millions'),
    [
        ('embedmask-v1_r50_fpn_1x_coco', 34.75),
        ('embedmask-v2_r50_fpn_1x_coco', 34.65),
        ('embedmask_r50_fpn_1x_coco', 34.72),
        ('embedmask-v1_r101_fpn_1x_coco', 53.69),
        ('embedmask-v2_r101_fpn_1x_coco', 53.59),
        ('embedmask_r101_fpn_ms-3x_coco', 53.66),
    ],
)
def test_parameter_counts_are_the_published_ones(name, millions):
    with torch.device('meta'):
        detector = MODELS.build(Config.fromfile(ROOT / f'configs/embedmask/{name}.py').model)
    # the originals keep the backbone's frozen norms as buffers
    count = sum(
        p.numel()
        for n, p in detector.named_parameters()
        if not (n.startswith('backbone') and ('bn' in n or 'downsample.1' in n))
    )
    assert round(count / 1e6, 2) == millions


def test_every_bias_learns_twice_as_fast_without_decay():
    config = tiny_config('v3')
    detector = MODELS.build(config.model)
    optimizer = build_optim_wrapper(detector, config.optim_wrapper).optimizer
    settings = {id(p): g for g in optimizer.param_groups for p in g['params']}
    for name, parameter in detector.named_parameters():
        if name.startswith('backbone') or not parameter.requires_grad:
            continue
        group = settings[id(parameter)]
        bias = name.endswith('bias')
        assert group['lr'] == pytest.approx(0.02 if bias else 0.01), name
        assert group['weight_decay'] == pytest.approx(0.0 if bias else 1e-4), name


@pytest.mark.parametrize(
    ('size', 'scale', 'expected'),
    [
        ((97, 150), (224, 128), (128, 197)),
        ((121, 90), (224, 128), (172, 128)),
        ((480, 640), (1333, 800), (800, 1066)),
        ((300, 1000), (1333, 800), (400, 1333)),
        ((800, 900), (1333, 800), (800, 900)),
    ],
)
def test_sizes_are_truncated_as_in_the_original(size, scale, expected):
    resize = TRANSFORMS.build(dict(type='TruncatedResize', scale=scale))
    result = resize(dict(img=np.zeros((*size, 3), np.uint8), img_shape=size))
    assert result['img'].shape[:2] == expected
    height, width = expected
    assert result['scale_factor'] == pytest.approx((width / size[1], height / size[0]))
