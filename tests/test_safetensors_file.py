"""Weights in safetensors files: what is in them, damage, every way that loads weights."""

import functools
import http.server
import json
import threading
from pathlib import Path

import publish_weights
import pytest
import torch
from locations import ROOT
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.runner import CheckpointLoader, load_checkpoint

from mmrefine import load_model
from mmrefine.checkpoint import read_checkpoint
from mmrefine.safetensors_file import read_safetensors, write_safetensors

CONFIG = ROOT / 'configs/sipmask/sipmask_tiny_shapes.py'


def by_hand(path: Path, header: dict, values: bytes) -> Path:
    """A file as the format's description has it."""
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, 'little') + text + values)
    return path


def test_a_file_written_by_hand_is_read(tmp_path: Path) -> None:
    header = {
        '__metadata__': {'config': 'x'},
        'b': {'dtype': 'F16', 'shape': [2, 1], 'data_offsets': [8, 12]},
        'a': {'dtype': 'I64', 'shape': [], 'data_offsets': [0, 8]},
        'c': {'dtype': 'F32', 'shape': [0, 3], 'data_offsets': [12, 12]},
    }
    values = (-7).to_bytes(8, 'little', signed=True) + bytes.fromhex('003c00c0')  # 1, -2
    weights, metadata = read_safetensors(by_hand(tmp_path / 'w.safetensors', header, values))
    assert metadata == {'config': 'x'}
    assert weights['a'].item() == -7 and weights['a'].dtype == torch.int64
    assert weights['b'].tolist() == [[1.0], [-2.0]] and weights['b'].dtype == torch.float16
    assert weights['c'].shape == (0, 3)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    types = torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool
    weights = {str(dtype): (torch.randn(3, 2) * 50).to(dtype).t() for dtype in types}
    weights |= {'none': torch.zeros(0, 4), 'one': torch.tensor(3.5)}
    path = tmp_path / 'w.safetensors'
    write_safetensors(path, weights, {'x': 'y'})
    found, metadata = read_safetensors(path)
    assert metadata == {'x': 'y'} and found.keys() == weights.keys()
    for name, value in weights.items():
        assert found[name].dtype == value.dtype and torch.equal(found[name], value)


@pytest.mark.parametrize(
    'content', [b'', b'PK\x03\x04' * 9, b'\xff' * 20, b'\x02' + bytes(7) + b'[]']
)
def test_other_files_are_refused_by_every_reader(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / 'w.safetensors'
    path.write_bytes(content)
    for read in (read_safetensors, read_checkpoint, lambda p: load_model(CONFIG, p)):
        with pytest.raises(ValueError, match='no safetensors file'):
            read(path)


def test_published_weights_fill_the_model(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    model = MODELS.build(Config.fromfile(CONFIG).model)
    meta = dict(dataset_meta=dict(classes=('a', 'b'), palette=[(1, 2, 3), (4, 5, 6)]))
    content = dict(state_dict=model.state_dict(), optimizer={}, meta=meta)
    torch.save(content, tmp_path / 'iter_1.pth')
    out = tmp_path / 'w.safetensors'
    words = [str(tmp_path / 'iter_1.pth'), str(out), '--config', CONFIG.name]
    assert publish_weights.main(words) == 0
    assert out.stat().st_size < 0.6 * (tmp_path / 'iter_1.pth').stat().st_size
    assert read_safetensors(out)[1]['config'] == CONFIG.name
    detector = load_model(CONFIG, out)
    assert list(detector.dataset_meta['classes']) == ['a', 'b']
    loaded = detector.state_dict()
    for name, value in model.state_dict().items():
        expected = value.half().float() if value.ndim > 1 else value
        assert torch.equal(loaded[name], expected), name
    other = MODELS.build(Config.fromfile(CONFIG).model)
    load_checkpoint(other, str(out), strict=True)  # what mim test and load_from call
    assert all(torch.equal(v, loaded[k]) for k, v in other.state_dict().items())
    assert 'sha256' in capsys.readouterr().out


def test_what_does_not_fit_a_half_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    torch.save({'state_dict': {'w': torch.full((1, 1), 1e6)}}, tmp_path / 'w.pth')
    assert publish_weights.main([str(tmp_path / 'w.pth'), str(tmp_path / 'w.safetensors')]) == 1
    assert 'too large for float16' in capsys.readouterr().err
    assert publish_weights.main([str(tmp_path / 'w.pth'), str(tmp_path / 'w.bin')]) == 1
    assert not list(tmp_path.glob('*.safetensors'))


def test_weights_at_an_address_are_downloaded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / 'served').mkdir()
    write_safetensors(tmp_path / 'served/w.safetensors', {'a': torch.tensor([1.0, 2.0])})
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    handler = functools.partial(QuietHandler, directory=str(tmp_path / 'served'))
    with http.server.HTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f'http://127.0.0.1:{server.server_port}/w.safetensors'
        first = CheckpointLoader.load_checkpoint(address)
        with pytest.raises(OSError, match='none.safetensors cannot be downloaded .*not found'):
            CheckpointLoader.load_checkpoint(address.replace('w.', 'none.'))
        server.shutdown()
    again = CheckpointLoader.load_checkpoint(address)
    assert first['state_dict']['a'].tolist() == again['state_dict']['a'].tolist() == [1.0, 2.0]


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Say nothing."""
