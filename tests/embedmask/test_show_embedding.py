"""The embedding picture from the command line."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from locations import ROOT
from mmdet.registry import MODELS
from mmengine.config import Config

from tools import show_embedding
from tools.show_embedding import main

CONFIG = ROOT / 'configs' / 'embedmask' / 'embedmask_tiny_shapes.py'


@pytest.fixture
def run(tmp_path: Path, command: Callable) -> Callable:
    def show(image: Path, out: str = 'out.png') -> tuple:
        model = MODELS.build(Config.fromfile(CONFIG).model)
        meta = dict(dataset_meta=dict(CLASSES=tuple('abcdefgh')))
        torch.save(dict(state_dict=model.state_dict(), meta=meta), tmp_path / 'model.pth')
        words = CONFIG, tmp_path / 'model.pth', image, '--out', tmp_path / out, '--score', 0
        return command('show_embedding', *words)

    return show


def test_one_row_of_three_panels_a_picture(tmp_path, run):
    rng = np.random.default_rng(0)
    cv2.imwrite(str(tmp_path / 'a.png'), rng.integers(0, 255, (70, 90, 3), np.uint8))
    done = run(tmp_path / 'a.png')
    assert done.status == 0, done.err
    picture = cv2.imread(str(tmp_path / 'out.png'))
    assert picture.shape == (2 * 70 + 8, 3 * (2 * 90 + 8), 3)


def test_labels_are_classes_of_the_model_where_weights_name_none(tmp_path, monkeypatch):
    config = Config.fromfile(CONFIG)
    torch.save(dict(state_dict=MODELS.build(config.model).state_dict()), tmp_path / 'model.pth')
    cv2.imwrite(str(tmp_path / 'a.png'), np.full((70, 90, 3), 90, np.uint8))
    labels = []

    def noted(photo: np.ndarray, masks: object, texts: list[str], *args: object) -> np.ndarray:
        labels.extend(texts)
        return photo

    monkeypatch.setattr(show_embedding, 'draw_instances', noted)
    words = CONFIG, tmp_path / 'model.pth', tmp_path / 'a.png', '--out', tmp_path / 'out.png'
    assert main([*map(str, words), '--score', '0']) == 0
    classes = config.test_dataloader.dataset.metainfo.classes
    assert labels and {label.rsplit(' ', 1)[0] for label in labels} <= set(classes)


def test_a_missing_picture_is_named(tmp_path, run):
    done = run(tmp_path / 'none.png')
    assert done.status == 1
    assert 'none.png' in done.err
    assert 'Traceback' not in done.err


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


def test_a_picture_that_was_not_written_is_an_error(tmp_path, run):
    cv2.imwrite(str(tmp_path / 'a.png'), np.full((70, 90, 3), 90, np.uint8))
    (tmp_path / 'folder.png').mkdir()
    done = run(tmp_path / 'a.png', out='folder.png')
    assert (done.status, 'written' in done.out) == (1, False)
    assert f'cannot write {tmp_path / "folder.png"}' in done.err
