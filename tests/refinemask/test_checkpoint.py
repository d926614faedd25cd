"""Every key of the authors' checkpoints loads strictly into the config of its model."""

import json

import pytest
import torch
from locations import ROOT
from mmdet.registry import MODELS
from mmengine.config import Config

from mmrefine.checkpoint import (
    CheckpointError,
    convert,
    read_checkpoint,
    recognise,
    write_checkpoint,
)

TABLES = json.loads((ROOT / 'tests' / 'data' / 'refinemask_keys.json').read_text())
CONFIGS = {
    'coco/r50-refinemask-1x': 'refinemask_r50_fpn_1x_coco',
    'coco/r50-refinemask-2x': 'refinemask_r50_fpn_2x_coco',
    'coco/r101-refinemask-1x': 'refinemask_r101_fpn_1x_coco',
    'coco/r101-refinemask-2x': 'refinemask_r101_fpn_2x_coco',
    'coco/r50-refinemask-1x-faster-better': 'refinemask-simple_r50_fpn_1x_coco',
    'lvis/r50-refinemask-1x': 'refinemask_r50_fpn_1x_lvis-v1',
    'lvis/r101-refinemask-1x (no config in the repo)': 'refinemask_r101_fpn_1x_lvis-v1',
    'cityscapes/r50-refinemask': 'refinemask_r50_fpn_1x_cityscapes',
}


def build(config: str, **head: object) -> torch.nn.Module:
    """The config's model without memory for its weights."""
    cfg = Config.fromfile(ROOT / 'configs' / 'refinemask' / f'{config}.py').model
    cfg.roi_head.bbox_head.update(head)
    with torch.device('meta'):
        return MODELS.build(cfg)


def published(name: str) -> dict[str, torch.Tensor]:
    """A state dict with the names and shapes of a released file."""
    return {key: torch.empty(shape, device='meta') for key, shape in TABLES[name].items()}


@pytest.mark.parametrize('name', TABLES)
def test_released_keys_load_strictly(name: str) -> None:
    model = build(CONFIGS[name])
    weights, kind = convert(published(name), model)
    assert kind == ('refinemask-simple' if 'faster' in name else 'refinemask')
    assert set(weights) == set(model.state_dict())


def test_wrong_class_count_is_refused_by_name() -> None:
    model = build('refinemask_r50_fpn_1x_coco', num_classes=7)
    with pytest.raises(CheckpointError, match=r'bbox_head\.fc_cls\.weight has shape \(81, 1024\)'):
        convert(published('coco/r50-refinemask-1x'), model)


def test_classifier_is_skipped_on_request() -> None:
    model = build('refinemask_r50_fpn_1x_coco', num_classes=7)
    weights, _ = convert(published('coco/r50-refinemask-1x'), model, skip_classifier=True)
    assert 'roi_head.bbox_head.fc_cls.weight' not in weights
    assert 'roi_head.mask_head.stages.1.instance_logits.weight' not in weights
    assert 'roi_head.mask_head.semantic_logits.weight' in weights


def test_missing_and_extra_keys_are_refused_by_name() -> None:
    state_dict = published('coco/r50-refinemask-1x')
    state_dict['roi_head.mask_head.extra'] = state_dict.pop('neck.fpn_convs.0.conv.bias')
    with pytest.raises(CheckpointError) as error:
        convert(state_dict, build('refinemask_r50_fpn_1x_coco'))
    assert 'missing neck.fpn_convs.0.conv.bias' in str(error.value)
    assert 'unexpected roi_head.mask_head.extra' in str(error.value)


def test_foreign_checkpoint_is_refused() -> None:
    with pytest.raises(CheckpointError, match='belong to no known checkpoint'):
        recognise({'layer.weight': torch.zeros(1)})


def test_file_round_trip(tmp_path) -> None:
    weights = {'module.roi_head.mask_head.final_instance_logits.weight': torch.rand(3, 2, 1, 1)}
    torch.save(dict(state_dict=weights, meta=dict(epoch=1)), tmp_path / 'author.pth')
    converted, kind = convert(read_checkpoint(tmp_path / 'author.pth'))
    write_checkpoint(tmp_path / 'ours.pth', converted, converted_from=kind)
    again = read_checkpoint(tmp_path / 'ours.pth')
    assert list(again) == ['roi_head.mask_head.final_instance_logits.weight']
    torch.testing.assert_close(again.popitem()[1], weights.popitem()[1])


@pytest.mark.parametrize('size', [0, 100, 5000])
def test_truncated_checkpoint_is_refused(tmp_path, size: int) -> None:
    path = tmp_path / 'broken.pth'
    torch.save(dict(state_dict={'w': torch.rand(64, 64)}), path)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(CheckpointError, match=r'cannot read .*broken\.pth'):
        read_checkpoint(path)
