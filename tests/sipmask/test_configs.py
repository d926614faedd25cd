"""Published configs hold what the recordings were made with."""

import pytest
import torch
from locations import ROOT
from mmdet.registry import MODELS
from mmengine.config import Config
from replay import sipmask_heads as recorded

FOLDER = ROOT / 'configs' / 'sipmask'
# Millions of parameters, as stated for the original models.
SIZES = {
    'sipmask_r50-caffe_fpn_gn_1x_coco': 33.1,
    'sipmask_r50-caffe_fpn_gn_ms-2x_coco': 33.1,
    'sipmask_r101-caffe_fpn_gn_ms-4x_coco': 52.1,
    'sipmask_r50-caffe_fpn_ssd-6x_coco': 30.8,
    'sipmask_r50-caffe_fpn_gn_ssd-10x_coco': 30.8,
    'sipmask_r101-caffe_fpn_ssd-6x_coco': 49.8,
    'sipmask_r101-caffe_fpn_gn_ssd-10x_coco': 49.8,
    'sipmask++_r101-caffe_fpn_ssd-6x_coco': 50.3,
    'sipmask++_r101-caffe_fpn_gn_ssd-10x_coco': 50.3,
    'sipmask-benchmark_r50-caffe_fpn_1x_coco': 33.1,
    'sipmask-benchmark_r101-caffe_fpn_ms-3x_coco': 52.1,
}


def load(name: str) -> Config:
    return Config.fromfile(FOLDER / f'{name}.py')


@pytest.mark.parametrize('name', SIZES)
def test_published_models_have_their_published_size(name):
    config = load(name)
    config.model.backbone.init_cfg = None
    with torch.device('meta'):
        model = MODELS.build(config.model)
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    assert round(millions, 1) == SIZES[name]


@pytest.mark.parametrize('name', SIZES)
def test_published_configs_set_the_parity_values(name):
    model = load(name).model
    if 'benchmark' in name:
        box, mask, test = (
            recorded.BENCHMARK_BOX_HEAD, recorded.BENCHMARK_MASK_HEAD, recorded.BENCHMARK_TEST,
        )  # fmt: skip
    else:
        box, mask = recorded.MMDET_BOX_HEAD, recorded.MMDET_MASK_HEAD
        test = recorded.MMDET_REAL_TIME if 'ssd' in name else recorded.MMDET_ACCURATE
    assert {key: model.bbox_head[key] for key in box} == box
    assert {key: model.mask_head[key] for key in mask} == mask
    assert {key: model.test_cfg[key] for key in test} == test
    assert model.test_cfg.box_export_offset == 1


@pytest.mark.parametrize('name', SIZES)
def test_published_configs_read_legacy_boxes_and_detectron_means(name):
    config = load(name)
    dataset = config.train_dataloader.dataset
    pipeline = dataset.get('pipeline', None) or dataset.dataset.pipeline
    steps = [step['type'] for step in pipeline]
    assert steps[steps.index('InclusiveBoxes') - 1] in ('LoadAnnotations', 'LoadMaskAnnotations')
    assert config.model.data_preprocessor.mean == [102.9801, 115.9465, 122.7717]
    assert 'detectron/resnet' in config.model.backbone.init_cfg.checkpoint


def test_default_configs_have_no_parity_switch():
    for name in ('sipmask_r50_fpn_1x_coco', 'sipmask_tiny_shapes'):
        model = load(name).model
        switches = set(recorded.MMDET_BOX_HEAD) | set(recorded.MMDET_MASK_HEAD)
        assert not switches & set(model.bbox_head)
        assert not switches & set(model.mask_head)
        assert not {'scale', 'clip_offset', 'nms_in_original'} & set(model.test_cfg)
