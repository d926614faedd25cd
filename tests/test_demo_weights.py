"""The weights in demo/ are those of the model card and give its figures."""

import hashlib
import re
from pathlib import Path

import pytest
from locations import ROOT, data_directory
from mmengine.config import Config
from mmengine.runner import Runner
from tiny_training import run

DEMO = ROOT / 'demo'
CARD = (DEMO / 'README.md').read_text()
WEIGHTS = sorted(DEMO.glob('*.safetensors'))
NAMES = [path.stem for path in WEIGHTS]


def row(stem: str, title: str) -> list[str]:
    """Cells of the card's table of that title in the row of some weights."""
    table = CARD.partition(f'## {title}\n')[2].partition('\n## ')[0]
    line = next(line for line in table.splitlines() if line.startswith(f'| `{stem}'))
    return [cell.strip(' `') for cell in line.strip('|').split('|')]


def config_of(stem: str) -> Path:
    return ROOT / row(stem, 'Weights')[1]


def test_there_are_weights_and_each_has_its_rows() -> None:
    assert 'refinemask_windows' in NAMES
    listed = re.findall(r'^\| `(\w+)\.safetensors`', CARD, re.M)
    assert sorted(listed) == sorted(2 * NAMES)  # a row in both tables


@pytest.mark.parametrize('path', WEIGHTS, ids=NAMES)
def test_files_are_small_and_those_of_the_card(path: Path) -> None:
    content = path.read_bytes()
    assert len(content) < 8_000_000
    assert row(path.stem, 'Weights')[2] == hashlib.sha256(content).hexdigest()


def figures(stem: str, place: str) -> list[float]:
    """Mask AP and boundary AP of the card, per cent, on ``crops`` or ``windows``."""
    cells = row(stem, 'Figures')
    first = {'windows': 1, 'crops': 3}[place]
    return [float(re.match(r'[\d.]+', cell)[0]) for cell in cells[first : first + 2]]


@pytest.mark.parametrize('path', WEIGHTS, ids=NAMES)
def test_three_photos_give_the_figures_of_the_card(path: Path, tmp_path: Path) -> None:
    config = Config.fromfile(config_of(path.stem))
    config.merge_from_dict(dict(work_dir=str(tmp_path), load_from=str(path)))
    truth = str(ROOT / 'tests/data/windows.json')
    config.test_dataloader.dataset.update(
        data_root='', ann_file=truth, data_prefix=dict(img=f'{DEMO}/photos/')
    )
    config.test_evaluator.ann_file = truth
    found = Runner.from_cfg(config).test()
    numbers = [100 * found[f'coco/{kind}_mAP'] for kind in ('segm', 'boundary')]
    # other processors round otherwise: a detection may pass a threshold or not
    assert numbers == pytest.approx(figures(path.stem, 'crops'), abs=1.0)


@pytest.mark.slow
@pytest.mark.skipif(data_directory() is None, reason='needs the photos')
@pytest.mark.parametrize('path', WEIGHTS, ids=NAMES)
def test_the_whole_set_gives_the_figures_of_the_card(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('MMREFINE_FACADES', str(data_directory() / 'facades_ccby'))
    words = ['--checkpoint', str(path), '--gpus', '0', '--work-dir', str(tmp_path)]
    text = run('mim', 'test', 'mmdet', str(config_of(path.stem)), *words)
    numbers = [float(re.search(rf'{kind} AP ([\d.]+)', text)[1]) for kind in ('mask', 'boundary')]
    assert numbers == pytest.approx(figures(path.stem, 'windows'), abs=0.2)
