"""Released weights of all generations, by their key tables."""

import gzip
import json

import pytest
import torch
from locations import ROOT
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.runner import load_checkpoint
from tiny_sipmask import tiny_detector

from mmrefine.checkpoint import CheckpointError, convert, recognise, rename
from mmrefine.sipmask.checkpoint import RULES

TABLES = json.loads(gzip.decompress((ROOT / 'tests/data/sipmask_keys.json.gz').read_bytes()))
CONFIGS = {
    'sipmask_r50_caffe_fpn_gn_1x': 'sipmask_r50-caffe_fpn_gn_1x_coco',
    'sipmask_r50_caffe_fpn_gn_ms_2x': 'sipmask_r50-caffe_fpn_gn_ms-2x_coco',
    'sipmask_r101_caffe_fpn_gn_ms_4x': 'sipmask_r101-caffe_fpn_gn_ms-4x_coco',
    'sipmask_r50_caffe_fpn_ssd_6x': 'sipmask_r50-caffe_fpn_ssd-6x_coco',
    'sipmask_r50_caffe_fpn_ssd_gn_10x': 'sipmask_r50-caffe_fpn_gn_ssd-10x_coco',
    'sipmask_r101_caffe_fpn_ssd_6x': 'sipmask_r101-caffe_fpn_ssd-6x_coco',
    'sipmask_r101_caffe_fpn_ssd_gn_10x': 'sipmask_r101-caffe_fpn_gn_ssd-10x_coco',
    'sipmask++_r101_caffe_fpn_ssd_6x': 'sipmask++_r101-caffe_fpn_ssd-6x_coco',
    'sipmask++_r101_caffe_fpn_ssd_gn_10x': 'sipmask++_r101-caffe_fpn_gn_ssd-10x_coco',
    'sipmask_R_50_FPN_1x': 'sipmask-benchmark_r50-caffe_fpn_1x_coco',
    'sipmask_R_101_FPN_ms_3x': 'sipmask-benchmark_r101-caffe_fpn_ms-3x_coco',
}
IMAGE_TABLES = [(g, name) for g in ('mmdet', 'benchmark') for name in TABLES[g]]


def weights(generation: str, name: str, device: str = 'meta') -> dict[str, torch.Tensor]:
    return {
        key: torch.zeros(shape, device=device)
        for key, (shape, *_) in TABLES[generation][name]['keys'].items()
    }


def published(name: str) -> torch.nn.Module:
    config = Config.fromfile(ROOT / 'configs' / 'sipmask' / f'{CONFIGS[name]}.py')
    config.model.backbone.init_cfg = None
    with torch.device('meta'):
        return MODELS.build(config.model)


@pytest.mark.parametrize(('generation', 'name'), IMAGE_TABLES, ids=lambda part: part)
def test_every_published_model_loads_strictly(generation, name):
    model = published(name)
    converted, kind = convert(weights(generation, name), model)
    assert kind == f'sipmask-{generation}'
    model.load_state_dict(converted, strict=True, assign=True)


@pytest.mark.parametrize(
    ('generation', 'name'), [(g, name) for g in TABLES for name in TABLES[g]], ids=lambda part: part
)
def test_names_follow_the_table(generation, name):
    state_dict = weights(generation, name)
    table = TABLES[generation][name]
    targets = {target for _, target, _ in table['keys'].values() if target}
    converter = recognise(state_dict)
    assert converter.name == f'sipmask-{generation}'
    assert set(converter.convert(state_dict)) == targets | set(table['target_only'])
    for key, (_, target, _) in table['keys'].items():
        assert target is None or rename(key, RULES) == target


def test_the_old_name_of_the_video_head_is_known():
    state_dict = weights('vis', 'sipmask_r50_caffe_fpn_gn_1x')
    old = {key.replace('sipmask_track', 'fovea_track'): value for key, value in state_dict.items()}
    assert recognise(old).name == 'sipmask-vis'
    assert set(recognise(old).convert(old)) == set(recognise(state_dict).convert(state_dict))


def test_batch_norm_of_the_benchmark_keeps_its_output():
    state_dict = weights('benchmark', 'sipmask_R_50_FPN_1x', 'cpu')
    name = 'backbone.body.layer1.0.bn1.running_var'
    state_dict[name] = torch.rand(64) + 0.01
    converted = recognise(state_dict).convert(state_dict)
    layer = torch.nn.BatchNorm2d(64).eval()
    layer.running_var.copy_(converted['backbone.layer1.0.bn1.running_var'])
    x = torch.randn(1, 64, 2, 2)
    expected = x / state_dict[name].sqrt()[:, None, None]
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-6)


def test_a_wrong_number_of_classes_is_refused_by_name():
    config = Config.fromfile(ROOT / 'configs/sipmask/sipmask_r50-caffe_fpn_gn_1x_coco.py')
    config.model.bbox_head.num_classes = 5
    config.model.backbone.init_cfg = None
    with torch.device('meta'):
        model = MODELS.build(config.model)
    state_dict = weights('mmdet', 'sipmask_r50_caffe_fpn_gn_1x')
    with pytest.raises(CheckpointError, match=r'bbox_head\.conv_cls\.weight has shape \(80, 256'):
        convert(state_dict, model)
    converted, _ = convert(state_dict, model, skip_classifier=True)
    assert not [key for key in converted if 'conv_cls' in key]
    assert 'bbox_head.conv_reg.weight' in converted


def original_names(detector: torch.nn.Module) -> dict[str, torch.Tensor]:
    """State dict of a detector under the names that the author's code gave the head."""
    table = TABLES['mmdet']['sipmask_r50_caffe_fpn_gn_1x']['keys']
    names = {target: key for key, (_, target, _) in table.items() if target}
    state_dict = detector.state_dict()
    return {names.get(key, key): torch.randn_like(value) if value.is_floating_point() else value
            for key, value in state_dict.items()}  # fmt: skip


def test_an_authors_file_loads_without_conversion(tmp_path):
    detector = tiny_detector()
    foreign = original_names(detector)
    torch.save({'state_dict': foreign}, tmp_path / 'author.pth')
    load_checkpoint(detector, str(tmp_path / 'author.pth'), strict=True)
    assert torch.equal(
        detector.mask_head.conv_basis.weight, foreign['bbox_head.sip_mask_lat.weight']
    )
    assert torch.equal(detector.bbox_head.conv_cls.bias, foreign['bbox_head.fcos_cls.bias'])


def test_our_own_files_are_left_alone(tmp_path):
    detector, other = tiny_detector(), tiny_detector()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.normal_()
    torch.save({'state_dict': other.state_dict()}, tmp_path / 'ours.pth')
    load_checkpoint(detector, str(tmp_path / 'ours.pth'), strict=True)
    for ours, theirs in zip(detector.parameters(), other.parameters()):
        assert torch.equal(ours, theirs)
