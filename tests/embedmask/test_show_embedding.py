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

CONFIG = ROOT / 'configs' / 'embedmask' / 'embedmask_tiny_shapes.py'


def run(tmp_path: Path, *images: str) -> subprocess.CompletedProcess:
    model = MODELS.build(Config.fromfile(CONFIG).model)
    meta = dict(dataset_meta=dict(CLASSES=tuple('abcdefgh')))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), tmp_path / 'model.pth')
    command = [sys.executable, '-W', 'ignore', str(ROOT / 'tools' / 'show_embedding.py')]
    command += [str(CONFIG), str(tmp_path / 'model.pth'), *images]
    return subprocess.run(
        [*command, '--out', str(tmp_path / 'out.png'), '--score', '0'],
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
