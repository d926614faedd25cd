"""What today's torch and NumPy need, and the words in which missing things are told."""

import importlib
import io
import os
import pickle
import shutil
import sys
import types
import urllib.error
import zipfile
from pathlib import Path

import mmengine.runner.checkpoint as mmengine_checkpoint
import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.runner.checkpoint import CheckpointLoader
from tiny_training import run

from mmrefine import dependencies, loading_errors
from mmrefine.evaluation import numpy_names


class Foreign:
    """Pickles into a call of a function of its choosing."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple:
        return self.call


def load(path: Path) -> dict:
    return CheckpointLoader.load_checkpoint(str(path), map_location='cpu')


def test_log_buffers_and_numpy_values_of_a_checkpoint_come_back(tmp_path: Path) -> None:
    hub = MessageHub('compat')
    hub.update_scalar('train/loss', 0.25)
    hub.update_scalar('train/loss', 0.75)
    hub.update_info('accuracy', np.float32(0.5))
    hub.update_info('classes', np.array([3, 1]))
    hub.update_info('done', np.bool_(True))
    path = tmp_path / 'epoch_1.pth'
    torch.save(dict(message_hub=hub.state_dict(), weight=torch.arange(3)), path)
    found = load(path)['message_hub']
    buffer = found['log_scalars']['train/loss']
    assert isinstance(buffer, HistoryBuffer)
    assert buffer.mean() == 0.5 and buffer.statistics('max') == 0.75
    assert found['runtime_info']['accuracy'] == np.float32(0.5)
    assert found['runtime_info']['classes'].tolist() == [3, 1]


@pytest.mark.parametrize('legacy', [False, True], ids=['zip', 'before torch 1.6'])
@pytest.mark.parametrize('package', ['numpy.core.multiarray', 'numpy._core.multiarray'])
def test_checkpoints_of_older_numpy_and_torch_load(
    tmp_path: Path, legacy: bool, package: str
) -> None:
    path = tmp_path / 'author.pth'
    meta = dict(epoch=12, CLASSES=('a', 'b'), best=np.float64(0.4), lr=np.arange(2.0))
    content = dict(meta=meta, state_dict=dict(weight=torch.ones(2)))
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    ours = np.float64(0).__reduce__()[0].__module__.encode()
    rewrite_pickle(path, legacy, ours, package.encode())
    found = load(path)
    assert found['meta']['best'] == 0.4
    assert found['meta']['lr'].tolist() == [0.0, 1.0]
    assert found['state_dict']['weight'].tolist() == [1.0, 1.0]


def rewrite_pickle(path: Path, legacy: bool, old: bytes, new: bytes) -> None:
    """Replace a module's name inside the pickle of a checkpoint."""
    if legacy:
        path.write_bytes(path.read_bytes().replace(old, new))
        return
    copy = io.BytesIO()
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(copy, 'w') as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, content.replace(old, new) if name.endswith('.pkl') else content)
    path.write_bytes(copy.getvalue())


@pytest.mark.parametrize(
    ('foreign', 'named'),
    [
        (Foreign(os.system, 'true'), 'system'),
        (Foreign(shutil.rmtree, 'nowhere'), 'shutil.rmtree'),
        (Foreign(getattr, HistoryBuffer, '__init__'), "getattr(HistoryBuffer,'__init__')"),
        (Foreign(getattr, torch.Size, 'mean'), "getattr(Size,'mean')"),
        (types.SimpleNamespace(a=1), 'types.SimpleNamespace'),
        (Path('x'), 'pathlib'),
    ],
    ids=['system', 'rmtree', 'getattr-dunder', 'getattr-other', 'class', 'path'],
)
def test_foreign_globals_are_refused_by_name(tmp_path: Path, foreign: object, named: str) -> None:
    path = tmp_path / 'foreign.pth'
    torch.save(dict(state_dict={}, extra=foreign), path)
    with pytest.raises(pickle.UnpicklingError, match='refused') as caught:
        load(path)
    assert named in str(caught.value) and str(path) in str(caught.value)
    assert 'weights_only' not in str(caught.value)


def test_getattr_itself_is_not_allowed() -> None:
    allowed = torch.serialization.get_safe_globals()
    assert getattr not in [item[0] if isinstance(item, tuple) else item for item in allowed]
    assert [item for item in allowed if isinstance(item, tuple) and 'getattr' in item[1]]


@pytest.mark.parametrize('share', [0.0, 0.3, 0.9, 0.999])
@pytest.mark.parametrize('legacy', [False, True])
def test_truncated_checkpoint_says_so(tmp_path: Path, share: float, legacy: bool) -> None:
    path = tmp_path / 'epoch_3.pth'
    torch.save(dict(w=torch.ones(999)), path, _use_new_zipfile_serialization=not legacy)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(RuntimeError, match=r'epoch_3\.pth is truncated, damaged'):
        load(path)


def test_error_page_instead_of_weights_says_so(tmp_path: Path) -> None:
    path = tmp_path / 'download.pth'
    path.write_text('<html>404 not found</html>')
    with pytest.raises(RuntimeError, match=r'download\.pth is truncated, damaged or no torch'):
        load(path)


def test_other_loading_errors_stay_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match='can not be found'):
        load(tmp_path / 'missing.pth')
    with pytest.raises(RuntimeError, match='^of the device$'):
        loading_errors.explained(raising(RuntimeError('of the device')))('x.pth')


def raising(error: Exception) -> object:
    def loader(*_: object, **__: object) -> None:
        raise error

    return loader


def test_torchvision_weights_without_torchvision_come_from_their_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without = ModuleNotFoundError("No module named 'torchvision'")
    asked = []
    loader = loading_errors._without_torchvision(
        raising(without), lambda url, map_location: asked.append(url) or {'conv1.weight': 1}
    )
    assert loader('torchvision://resnet50') == {'conv1.weight': 1}
    assert asked == ['https://download.pytorch.org/models/resnet50-0676ba61.pth']


@pytest.mark.parametrize(
    ('weights', 'error'), [('resnet50', OSError), ('no_such_net.v9', ModuleNotFoundError)]
)
def test_torchvision_weights_out_of_reach_say_what_to_do(weights: str, error: type) -> None:
    without = ModuleNotFoundError("No module named 'torchvision'")
    offline = raising(urllib.error.URLError('name not known'))
    loader = loading_errors._without_torchvision(raising(without), offline)
    with pytest.raises(error, match='pip install --no-deps torchvision') as caught:
        loader(f'torchvision://{weights}')
    assert 'model.backbone.init_cfg=None' in str(caught.value)


def test_weights_that_cannot_be_downloaded_are_named() -> None:
    """With torchvision installed, and for any other address."""
    offline = raising(urllib.error.URLError('name not known'))
    loader = loading_errors._without_torchvision(offline, offline)
    with pytest.raises(
        OSError, match=r'torchvision://resnet50 \(name not known\): check'
    ) as caught:
        loader('torchvision://resnet50')
    assert 'get_backbone' in str(caught.value) and 'init_cfg=None' in str(caught.value)
    with pytest.raises(OSError, match=r'https://x/y.pth cannot be downloaded \(name not known\)'):
        loading_errors.explained(offline)('https://x/y.pth')


def test_mmengine_uses_the_explaining_loaders() -> None:
    for scheme in ('', 'http://', 'https://', 'torchvision://', 'modelzoo://'):
        assert (
            CheckpointLoader._schemes[scheme].__wrapped__.__module__ == mmengine_checkpoint.__name__
        )


@pytest.mark.parametrize('first', [True, False], ids=['mmrefine first', 'mmrefine last'])
def test_numpy_names_exist_in_the_metrics_and_nowhere_else(first: bool) -> None:
    used = {
        'lvis.eval': 'float',
        'mmdet.evaluation.functional.ytviseval': 'float',
        'cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling': 'in1d',
    }
    assert set(used) == set(numpy_names.USERS)
    lines = [f'import {module}' for module in used]
    lines.insert(0 if first else len(lines), 'import mmrefine')
    lines += ['from mmdet.registry import METRICS', 'METRICS.get("LVISMetric")']
    for module, name in used.items():
        lines += [f'{module}.np.{name}; assert {module}.np.array([1]).sum() == 1']
    lines += [
        'import inspect, numpy, mmdet.evaluation.metrics.cityscapes_metric as stock',
        # The maintained line of MMDetection sets this one in NumPy itself.
        'theirs = {"in1d"} if "np.in1d =" in inspect.getsource(stock) else set()',
        'assert {"float", "in1d"} & set(vars(numpy)) == theirs',
    ]
    run(sys.executable, '-W', 'ignore', '-c', '\n'.join(lines))


# ------------------------------------------------------------------------------------ dependencies


def refusal(monkeypatch: pytest.MonkeyPatch, **replaced: object) -> str:
    """What is said when importing these modules gives a version, or raises."""

    def fake_import(name: str) -> types.ModuleType:
        value = replaced.get(name.replace('.', ''))
        if isinstance(value, Exception):
            raise value
        module = importlib.import_module(name)
        if value is not None:
            module = types.ModuleType(name)
            module.__version__ = value
        return module

    monkeypatch.setattr(dependencies, 'import_module', fake_import)
    with pytest.raises(ImportError) as caught:
        dependencies.require_dependencies()
    return str(caught.value)


@pytest.mark.parametrize('name', ['torch', 'mmengine', 'mmcv', 'mmdet'])
def test_missing_dependency_names_the_command(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    absent = ModuleNotFoundError(f'No module named {name!r}', name=name)
    message = refusal(monkeypatch, **{name: absent})
    assert message.startswith(f'mmrefine needs {name}: `pip install')
    assert 'bash tools/install.sh' in message


def test_dependency_of_a_dependency_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = ModuleNotFoundError("No module named 'addict'", name='addict')
    assert 'its dependency addict is not' in refusal(monkeypatch, mmengine=absent)


@pytest.mark.parametrize(
    ('name', 'old'),
    [('torch', '2.5.1'), ('mmengine', '0.10.4'), ('mmcv', '2.0.1'), ('mmdet', '3.2.0')],
)
def test_old_dependency_names_the_version(
    monkeypatch: pytest.MonkeyPatch, name: str, old: str
) -> None:
    minimum = dependencies.MINIMUM[name]
    message = refusal(monkeypatch, **{name: old})
    assert message.startswith(f'mmrefine needs {name} >= {minimum}, this is {old}: `pip install')


def test_mmcv_too_new_for_mmdet_becomes_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    cap = AssertionError('MMCV==2.2.0 is used but incompatible. Please install mmcv<2.2.0.')
    message = refusal(monkeypatch, mmdet=cap)
    assert message.startswith('mmdet refuses the packages beside it ("MMCV==2.2.0')
    assert 'mmcv==2.1.0' in message and 'onedl-mmcv' in message


def test_lite_build_of_mmcv_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = ModuleNotFoundError("No module named 'mmcv._ext'", name='mmcv._ext')
    message = refusal(monkeypatch, mmcv_ext=absent)
    assert 'has no compiled operators' in message and 'lite build' in message
    assert 'pip uninstall mmcv mmcv-lite' in message


def test_operators_of_another_torch_are_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    message = refusal(monkeypatch, mmcv_ext=ImportError('undefined symbol: _ZN3c10'))
    assert 'do not load (undefined symbol' in message and 'another torch' in message


def test_import_of_the_package_gives_the_message(tmp_path: Path) -> None:
    (tmp_path / 'mmengine.py').write_text('__version__ = "0.9.0"')
    root = Path(dependencies.__file__).parents[1]
    code = f'import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(root)!r}]; import mmrefine'
    printed = run(sys.executable, '-W', 'ignore', '-c', code, expect=1)
    assert 'ImportError: mmrefine needs mmengine >= 0.10.7, this is 0.9.0' in printed


@pytest.mark.parametrize(
    ('text', 'numbers'),
    [
        ('2.13.0+cpu', (2, 13)),
        ('2.1.0', (2, 1)),
        ('0.10.7', (0, 10, 7)),
        ('2.2.0rc1', (2, 2)),
        ('3', (3,)),
    ],
)
def test_versions_compare_by_number(text: str, numbers: tuple[int, ...]) -> None:
    assert dependencies._numbers(text) == numbers
