"""Reading of checkpoints, and authors' files that load as they are."""

from pathlib import Path

import pytest
import torch
from replay.sharpmask_weights import build_model, generate, port_shapes
from torch import nn

from mmrefine.apis.load_model import require_weights
from mmrefine.checkpoint import (
    CheckpointError,
    Converter,
    read_checkpoint,
    rename_authors_weights,
)


@pytest.mark.parametrize('wrap', ['', 'state_dict', 'model'])
@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_weights_are_read_with_and_without_wrapping(tmp_path: Path, wrap: str, prefix: str) -> None:
    state = {'a.weight': torch.rand(2), 'a.bias': torch.rand(1)}
    content: dict = {prefix + key: value for key, value in state.items()}
    torch.save({wrap: content, 'epoch': 3} if wrap else content, tmp_path / 'weights.pth')
    found = read_checkpoint(tmp_path / 'weights.pth')
    assert found.keys() == state.keys()
    assert all(torch.equal(found[key], state[key]) for key in state)


def test_files_without_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r'no checkpoint at .*none\.pth'):
        read_checkpoint(tmp_path / 'none.pth')
    torch.save({'epoch': 3}, tmp_path / 'weights.pth')
    with pytest.raises(CheckpointError, match=r'weights\.pth holds no weights'):
        read_checkpoint(tmp_path / 'weights.pth')
    torch.save({'path': tmp_path}, tmp_path / 'code.pth')
    with pytest.raises(CheckpointError, match=r'code\.pth holds pathlib.*could run code: refused'):
        read_checkpoint(tmp_path / 'code.pth')
    with pytest.raises(CheckpointError, match=r'https://a\.b/c\.t7 can .*: download it first'):
        read_checkpoint('https://a.b/c.t7')


def author_keys(keys: dict) -> bool:
    return 'theirs' in keys


class Detector(nn.Module):
    """Loads files of an author who called its weight by another name."""

    def __init__(self) -> None:
        super().__init__()
        self.ours = nn.Parameter(torch.zeros(2))
        self.register_load_state_dict_pre_hook(rename_authors_weights)


@pytest.fixture
def _one_author(monkeypatch: pytest.MonkeyPatch) -> None:
    converter = Converter('theirs', author_keys, lambda state: {'ours': state['theirs']})
    monkeypatch.setattr('mmrefine.checkpoint.converters', lambda: [converter])


@pytest.mark.usefixtures('_one_author')
@pytest.mark.parametrize(
    'state',
    [
        {'theirs': torch.ones(2)},
        {'module.theirs': torch.ones(2)},
        {'model': {'module.theirs': torch.ones(2)}, 'iteration': 9},
        {'ours': torch.ones(2)},
    ],
)
def test_detectors_load_authors_weights_and_their_own(state: dict) -> None:
    detector = Detector()
    detector.load_state_dict(state)
    assert detector.ours.tolist() == [1, 1]
    outer = nn.ModuleDict({'detector': Detector()})
    with pytest.raises(RuntimeError, match='detector.theirs'):
        outer.load_state_dict({'detector.theirs': torch.ones(2)})


def test_weights_of_the_port_fill_their_model() -> None:
    model = build_model('port', 7, sharpmask=False)
    shapes = port_shapes(model, sharpmask=False)
    foreign = {f'module.{key}': generate(key, shape, 8) for key, shape in shapes.items()}
    require_weights(model, foreign, 'DeepMask.pth.tar')
    expected = foreign['module.scoreBranch.4.weight']
    torch.testing.assert_close(model.mask_head.score_fc2.weight, expected)
