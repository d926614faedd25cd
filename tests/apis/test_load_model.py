"""Weights that fill a model, and names for its classes."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.hub import get_config
from torch import nn

from mmrefine.apis.class_names import class_count, class_names
from mmrefine.apis.load_model import (
    checked_device,
    load_model,
    read_config,
    require_weights,
)


def small_model() -> nn.Module:
    return nn.ModuleDict({'trunk': nn.Conv2d(1, 2, 1), 'norm': nn.BatchNorm2d(2)})


def test_whole_weights_are_loaded_and_parts_refused() -> None:
    model, state = small_model(), small_model().state_dict()
    require_weights(model, state, 'w.pth')
    assert torch.equal(model['trunk'].weight, state['trunk.weight'])
    del state['norm.num_batches_tracked']  # files of old programs have none
    require_weights(model, state, 'w.pth')
    del state['trunk.bias']
    with pytest.raises(ValueError, match=r'w\.pth is of another model .* lacks trunk\.bias$'):
        require_weights(model, state, 'w.pth')
    require_weights(model, state, 'w.pth', unused=('trunk.',))
    state['norm.weight'] = torch.ones(3)
    with pytest.raises(ValueError, match=r'(?s)of another model.*norm\.weight'):
        require_weights(model, state, 'w.pth', unused=('trunk.',))


def test_devices_are_named() -> None:
    assert checked_device('cpu') == torch.device('cpu')
    for name in ('gpu', f'cuda:{torch.cuda.device_count()}'):
        with pytest.raises(ValueError, match=name):
            checked_device(name)


@pytest.mark.parametrize(
    ('package', 'name'),
    [
        ('mmrefine', 'refinemask/refinemask_r50_fpn_1x_coco.py'),
        ('mmdet', 'mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'),
    ],
)
def test_configs_of_installed_packages_go_by_name(package: str, name: str) -> None:
    assert read_config(f'{package}::{name}').to_dict() == get_config(f'{package}::{name}').to_dict()
    with pytest.raises(FileNotFoundError, match=r'none\.py'):
        read_config(f'{package}::none.py')
    with pytest.raises(ValueError, match='nowhere::.* is no config: .*nowhere'):
        read_config(f'nowhere::{name}')


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ("model = dict(type='MaskRCNN')", 'has no test_dataloader.* not of a part'),
        (
            "model = dict(type='NoSuchDetector', backbone=dict())\n"
            "test_dataloader = dict(dataset=dict(type='CocoDataset'))",
            'builds no detector: .*NoSuchDetector',
        ),
    ],
)
def test_configs_that_build_no_detector_are_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / 'config.py').write_text(text)
    torch.save({'state_dict': {'a': torch.ones(1)}}, tmp_path / 'weights.pth')
    with pytest.raises(ValueError, match=rf'config\.py {message}'):
        load_model(tmp_path / 'config.py', tmp_path / 'weights.pth')


def headed(count: int, names: tuple[str, ...], config: tuple[str, ...] = ()) -> nn.Module:
    """A model of ``count`` classes whose checkpoint and config name some."""
    model = nn.Module()
    model.bbox_head = nn.Module()
    model.bbox_head.num_classes = count
    dataset = dict(type='CheckedCocoDataset', ann_file='', metainfo=dict(classes=config))
    model.cfg = Config(dict(test_dataloader=dict(dataset=dataset)))
    model.dataset_meta = dict(classes=names)
    return model


def test_names_come_from_the_checkpoint_or_else_from_the_config() -> None:
    assert class_names(headed(2, ('a', 'b'), ('c', 'd'))) == ('a', 'b')
    assert class_names(headed(2, ('a', 'b', 'c'), ('c', 'd'))) == ('c', 'd')
    with pytest.raises(ValueError, match='2 classes, but neither checkpoint nor config'):
        class_names(headed(2, ('a', 'b', 'c'), ('d',)))


def test_the_last_head_of_a_cascade_counts() -> None:
    heads = nn.ModuleList(headed(count, ()).bbox_head for count in (7, 3))
    assert class_count(SimpleNamespace(bbox_head=heads)) == 3
    assert class_count(nn.Module()) is None


def test_names_fit_a_model_that_classifies_queries() -> None:
    model = headed(3, ('a',) * 80, ('b',) * 80)
    model.panoptic_head = model.bbox_head
    del model.bbox_head
    with pytest.raises(ValueError, match='3 classes, but neither checkpoint nor config'):
        class_names(model)
