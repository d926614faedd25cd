"""Names, shapes and conversion of the authors' checkpoints."""

import json
from pathlib import Path

import pytest
import torch
from replay.sharpmask_weights import build_model, generate, port_shapes

from mmrefine.sharpmask.checkpoint import (
    collect_torch7,
    convert_port,
    convert_torch7,
    is_port_state,
    is_torch7_state,
    port_names,
    torch7_names,
)
from mmrefine.sharpmask.torch7 import load_torch7

DATA = Path(__file__).parents[1] / 'data'
KEYS = json.loads((DATA / 'sharpmask_keys_compact.json').read_text())


def zeros(shape: list[int]) -> torch.Tensor:
    """A tensor of any shape that takes no memory."""
    return torch.zeros(()).expand(shape)


@pytest.mark.parametrize('name', ['DeepMask', 'SharpMask'])
def test_port_names_are_those_of_the_released_code(name):
    assert port_names(name == 'SharpMask') == {k: v[0] for k, v in KEYS['port'][name].items()}


@pytest.mark.parametrize('name', ['DeepMask', 'SharpMask'])
def test_torch7_paths_are_those_of_the_released_code(name):
    assert torch7_names(name == 'SharpMask') == {k: v[0] for k, v in KEYS['t7'][name].items()}


@pytest.mark.parametrize('name', ['DeepMask', 'SharpMask'])
def test_port_checkpoints_fit_strictly(name):
    state = {f'module.{k}': zeros(v[1]) for k, v in KEYS['port'][name].items()}
    assert is_port_state(state)
    model = build_model('port', 7, name == 'SharpMask')
    model.load_state_dict(convert_port(state), strict=True)


@pytest.mark.parametrize('name', ['DeepMask', 'SharpMask'])
def test_torch7_checkpoints_fit_strictly(name):
    flat = {k: zeros(v[1]) for k, v in KEYS['t7'][name].items()}
    assert is_torch7_state(flat) and not is_port_state(flat)
    converted = convert_torch7(flat)
    model = build_model('lua', 7, name == 'SharpMask')
    model.load_state_dict(converted, strict=True)
    # the normalisation must be the identity: y = a * x + b
    norm = model.backbone.bn1
    norm.weight.data.fill_(3.0)
    norm.bias.data.fill_(-1.0)
    x = torch.randn(1, 64, 2, 2)
    torch.testing.assert_close(norm(x), 3 * x - 1)


def test_aliases_and_the_flat_mask_branch_are_understood():
    state = {k: zeros(v[1]) for k, v in KEYS['port']['SharpMask'].items()}
    for kind in ('weight', 'bias'):
        state[f'maskBranchDM.0.{kind}'] = state.pop(f'maskBranchDM.0.0.{kind}')
        state[f'refs.1.layer1.1.{kind}'] = state[f'neths.0.1.{kind}']
        state[f'refs.0.{kind}'] = state[f'netvs.0.{kind}']
    assert 'mask_head.mask_fc.weight' in convert_port(state)


def test_foreign_keys_are_named():
    state = {k: zeros(v[1]) for k, v in KEYS['port']['DeepMask'].items()}
    with pytest.raises(KeyError, match='something.else'):
        convert_port(state | {'something.else': zeros([1])})
    state.pop('trunk.1.2.bias')
    with pytest.raises(KeyError, match='trunk.1.2.bias'):
        convert_port(state)


def test_a_torch7_file_of_another_model_is_refused():
    fixture = load_torch7(DATA / 'golden' / 'sharpmask_t7_fixture_float.t7')
    with pytest.raises((KeyError, ValueError)):
        collect_torch7(fixture)
    with pytest.raises(ValueError, match='found dict'):
        collect_torch7({'model': {}})


def test_the_models_load_the_ports_checkpoints_directly():
    model = build_model('port', 7, sharpmask=False)
    shapes = port_shapes(model, sharpmask=False)
    foreign = {f'module.{key}': generate(key, shape, 8) for key, shape in shapes.items()}
    model.load_state_dict(dict(foreign), strict=True)
    torch.testing.assert_close(
        model.mask_head.score_fc2.weight, foreign['module.scoreBranch.4.weight']
    )
