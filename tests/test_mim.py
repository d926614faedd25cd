"""OpenMMLab's command line ``mim``, run for real on a data set of rectangles."""

import functools
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from locations import ROOT
from mmdet.apis import inference_detector, init_detector
from tiny_training import SIZE, losses, run, write_config


def mim(*arguments: object, folder: Path) -> str:
    return run('mim', *arguments, folder=folder)


def trained(folder: Path, package: str, config: object) -> Path:
    """Train for one epoch; the checkpoint."""
    work_dir = folder / 'work_dir'
    mim('train', package, config, '--gpus', 0, '--work-dir', work_dir, folder=folder)
    assert sorted(losses(work_dir)) == [1, 2, 3, 4]
    return work_dir / 'epoch_1.pth'


def test_mim_trains_and_tests_by_the_name_of_this_package(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    checkpoint = trained(tmp_path, 'mmrefine', config)
    arguments = ('--checkpoint', checkpoint, '--gpus', 0, '--work-dir', tmp_path / 'test')
    assert 'segm_mAP' in mim('test', 'mmrefine', config, *arguments, folder=tmp_path)
    detector = init_detector(str(config), str(checkpoint), device='cpu')
    result = inference_detector(detector, str(tmp_path / 'data' / 'images' / '0.png'))
    assert result.pred_instances.masks.shape[1:] == (SIZE, SIZE)


@pytest.mark.slow
def test_mim_trains_and_tests_by_the_name_of_mmdet(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    checkpoint = trained(tmp_path, 'mmdet', config)
    arguments = ('--checkpoint', checkpoint, '--gpus', 0, '--work-dir', tmp_path / 'test')
    assert 'segm_mAP' in mim('test', 'mmdet', config, *arguments, folder=tmp_path)


@pytest.mark.slow
def test_mim_finds_a_config_of_this_package_by_name(tmp_path: Path) -> None:
    shapes = tmp_path / 'shapes'
    run(sys.executable, ROOT / 'tools' / 'make_shapes.py', shapes, '--num', 8, '--size', 96)
    work_dir = tmp_path / 'work_dir'
    options = ('--cfg-options', 'train_cfg.max_iters=2', 'train_cfg.val_interval=2')
    printed = run(
        *('mim', 'train', 'mmrefine', 'refinemask_tiny_shapes.py', '--gpus', 0),
        *('--work-dir', work_dir, *options),
        folder=tmp_path,
        MMREFINE_SHAPES=str(shapes),
    )
    assert 'mask AP' in printed
    assert (work_dir / 'refinemask_tiny_shapes.py').exists()


@pytest.mark.slow
@pytest.mark.parametrize('package', ['mmdet', 'mmrefine'])
def test_mim_searches_a_grid(tmp_path: Path, package: str) -> None:
    config = write_config(tmp_path)
    search = '--optim_wrapper.optimizer.lr 0.001 0.002'
    arguments = ('--gpus', 0, '--work-dir', tmp_path / 'grid', '--search-args', search)
    mim('gridsearch', package, config, *arguments, folder=tmp_path)
    rates = {losses(path)[4]['lr'] for path in tmp_path.glob('grid*')}  # one folder per point
    assert len(rates) == 2


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve the files of a folder over HTTP; the address."""
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(folder))
    server = ThreadingHTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f'http://127.0.0.1:{server.server_address[1]}'
    finally:
        server.shutdown()


@pytest.mark.slow
def test_mim_downloads_weights_and_config(tmp_path: Path) -> None:
    """A copy of the package whose metafile names a local server."""
    name = 'refinemask_r50_fpn_1x_coco'
    site = tmp_path / 'site'
    weights = tmp_path / 'served' / f'{name}.pth'
    weights.parent.mkdir()
    torch.save(dict(state_dict=dict(w=torch.arange(3))), weights)
    run('pip', 'install', '-q', '--no-deps', '--no-build-isolation', '--target', site, ROOT)
    metafile = site / 'mmrefine' / '.mim' / 'configs' / 'refinemask' / 'metafile.yml'
    with served(weights.parent) as address:
        text = metafile.read_text()
        entry = f'Name: {name}\n'
        assert entry in text
        indent = text.partition(entry)[0].rpartition('\n')[2].replace('-', ' ')
        line = f'{entry}{indent}Weights: {address}/{weights.name}\n'
        metafile.write_text(text.replace(entry, line))
        arguments = ('--config', name, '--dest', tmp_path / 'got')
        run('mim', 'download', 'mmrefine', *arguments, folder=tmp_path, PYTHONPATH=str(site))
    assert (tmp_path / 'got' / weights.name).read_bytes() == weights.read_bytes()
    assert 'RefineRoIHead' in (tmp_path / 'got' / f'{name}.py').read_text()
