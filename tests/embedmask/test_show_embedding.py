"""The embedding picture from the command line."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from locations import ROOT
from mmdet.registry import MODELS
from mmengine.config import Config

from tools.show_embedding import main

CONFIG = ROOT / 'configs' / 'embedmask' / 'embedmask_tiny_shapes.py'


def run(tmp_path: Path, *images: str, out: str = 'out.png') -> subprocess.CompletedProcess:
    model = MODELS.build(Config.fromfile(CONFIG).model)
    meta = dict(dataset_meta=dict(CLASSES=tuple('abcdefgh')))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), tmp_path / 'model.pth')
    command = [sys.executable, '-W', 'ignore', str(ROOT / 'tools' / 'show_embedding.py')]
    command += [str(CONFIG), str(tmp_path / 'model.pth'), *images]
    return subprocess.run(
        [*command, '--out', str(tmp_path / out), '--score', '0'],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )


def test_one_row_of_three_panels_a_picture(tmp_path):
    rng = np.random.default_rng(0)
    cv2.imwrite(str(tmp_path / 'a.png'), rng.integers(0, 255, (70, 90, 3), np.uint8))
    done = run(tmp_path, str(tmp_path / 'a.png'))
    assert done.returncode == 0, done.stderr
    picture = cv2.imread(str(tmp_path / 'out.png'))
    assert picture.shape == (2 * 70 + 8, 3 * (2 * 90 + 8), 3)


def test_a_missing_picture_is_named(tmp_path):
    done = run(tmp_path, str(tmp_path / 'none.png'))
    assert done.returncode == 1
    assert 'none.png' in done.stderr
    assert 'Traceback' not in done.stderr


def test_outputs_that_cannot_be_written_are_refused(tmp_path, capsys):
    cv2.imwrite(str(tmp_path / 'photo.png'), np.full((30, 40, 3), 90, np.uint8))
    before = (tmp_path / 'photo.png').read_bytes()
    photo = str(tmp_path / 'photo.png')
    for out, reason in (('photo.png', 'is also --images'), ('se', 'names no picture file')):
        words = ['config.py', 'model.pth', 'other.png', photo, '--out', str(tmp_path / out)]
        assert main(words) == 1
        assert reason in capsys.readouterr().err
    assert main([*words[:4], '--out', str(tmp_path / 'out.png'), '--scale', '0']) == 1
    assert '--scale must be at least 1, got 0' in capsys.readouterr().err
    assert (tmp_path / 'photo.png').read_bytes() == before


def test_a_picture_that_was_not_written_is_an_error(tmp_path):
    cv2.imwrite(str(tmp_path / 'a.png'), np.full((70, 90, 3), 90, np.uint8))
    (tmp_path / 'folder.png').mkdir()
    done = run(tmp_path, str(tmp_path / 'a.png'), out='folder.png')
    assert (done.returncode, 'written' in done.stdout) == (1, False)
    assert f'cannot write {tmp_path / "folder.png"}' in done.stderr
