"""Checkpoints of the original code, converted from the command line."""

from pathlib import Path

import pytest
import torch

from tools.convert_checkpoint import main

KEY = 'roi_head.mask_head.final_instance_logits.weight'


@pytest.fixture
def author(tmp_path: Path) -> Path:
    """A file of the original RefineMask."""
    path = tmp_path / 'author.pth'
    torch.save({'state_dict': {f'module.{KEY}': torch.ones(3, 2, 1, 1)}}, path)
    return path


def test_converted_weights_are_written(author, tmp_path, capsys):
    assert main([str(author), str(tmp_path / 'new' / 'ours.pth')]) == 0
    content = torch.load(tmp_path / 'new' / 'ours.pth', weights_only=True)
    assert content['meta'] == {'converted_from': 'refinemask'}
    assert torch.equal(content['state_dict'][KEY], torch.ones(3, 2, 1, 1))
    assert 'refinemask: 1 entries written' in capsys.readouterr().out


def test_the_input_is_kept(author, capsys):
    before = author.read_bytes()
    assert main([str(author), str(author)]) == 1
    assert 'is also --input' in capsys.readouterr().err
    assert author.read_bytes() == before


def test_configs_without_a_model_are_named(author, tmp_path, capsys):
    out = tmp_path / 'ours.pth'
    (tmp_path / 'empty.py').write_text('lr = 0.1')
    (tmp_path / 'broken.py').write_text('model = dict(')
    for config in ('missing.py', 'empty.py', 'broken.py'):
        assert main([str(author), str(out), '--config', str(tmp_path / config)]) == 1
        assert config in capsys.readouterr().err
    assert not out.exists()


def test_what_cannot_be_written_leaves_nothing(author, tmp_path, capsys, monkeypatch):
    (tmp_path / 'folder').mkdir()
    for out in (tmp_path / 'folder', author / 'ours.pth'):
        assert main([str(author), str(out)]) == 1
        assert str(out) in (said := capsys.readouterr().err) or str(author) in said

    def full(*_: object) -> None:
        raise RuntimeError('PytorchStreamWriter failed writing file')

    monkeypatch.setattr(torch, 'save', full)
    assert main([str(author), str(tmp_path / 'ours.pth')]) == 1
    assert 'ours.pth: PytorchStreamWriter failed' in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ['author.pth', 'folder']
