"""What a training prints and leaves behind: facts, losses, scores; the rest is in the log file."""

import json
import logging
import re
from pathlib import Path

import cv2
import pytest
from locations import ROOT
from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import LogProcessor
from tiny_training import SIZE, run, write_config

from mmrefine.hooks.quiet_runner import MaskLogProcessor, QuietRunner, compact_scores, data_facts

QUIET = """
runner_type = 'mmdet.QuietRunner'
default_hooks = dict(summary=dict(type='TrainingSummaryHook', worst=2, score_thr=0.0))
train_cfg = dict(max_epochs=1, val_interval=1)
val_evaluator = dict(_delete_=True, type='MaskAPMetric', ann_file='{data}/annotations.json',
                     outfile_prefix='{data}/val')
test_evaluator = val_evaluator
"""


@pytest.fixture(scope='module')
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Work folder of a training of one epoch, and what it printed."""
    folder = tmp_path_factory.mktemp('quiet')
    more = QUIET.format(data=folder / 'data')
    config = write_config(folder, more=more)
    work = folder / 'work'
    printed = run('python', ROOT / 'tools' / 'train.py', config, '--work-dir', work)
    # What MMDetection's maintained line prints when it is imported, before there is a runner
    foreign = set(run('python', '-c', 'import mmdet.datasets, mmdet.evaluation').splitlines())
    lines = [line for line in printed.splitlines(True) if line.rstrip('\n') not in foreign]
    return work, ''.join(lines)


def test_one_line_of_facts_comes_before_the_first_loss(trained: tuple[Path, str]) -> None:
    work, printed = trained
    before, loss, _ = printed.partition('Epoch(train)')
    assert loss
    lines = [line for line in before.splitlines() if line.strip()]
    assert len(lines) == 2  # the facts, and the time stamp of the loss
    weights = float(re.search(r'MaskRCNN, ([\d.]+) M parameters', lines[0])[1])
    assert 0.1 < weights < 1  # 8 to 64 channels
    annotations = json.loads((work.parent / 'data' / 'annotations.json').read_text())
    objects = len(annotations['annotations'])
    assert (
        f'; 8 pictures, {objects} objects of 2 classes; batch 2; 4 iterations in 1 epochs; cpu;'
        in lines[0]
    )
    assert lines[0].endswith(str(work))


def test_dumps_and_foreign_warnings_are_not_printed(trained: tuple[Path, str]) -> None:
    work, printed = trained
    dumps = (
        'System environment',
        'Config:',
        'Hooks will be executed',
        'GPU number',
        'index created',
    )
    assert not [text for text in (*dumps, 'deprecated', 'Warning', 'alias') if text in printed]
    (log,) = work.glob('*/*.log')
    text = log.read_text()
    assert all(dump in text for dump in dumps[:4])


def test_losses_keep_their_estimate_of_the_time_left(trained: tuple[Path, str]) -> None:
    assert re.search(r'Epoch\(train\).*eta: \d+:\d\d:\d\d.*loss: \d', trained[1])


def test_a_validation_is_one_line_and_all_numbers_are_kept(trained: tuple[Path, str]) -> None:
    work, printed = trained
    lines = [line for line in printed.splitlines() if 'Epoch(val)' in line]
    assert len(lines) == 1
    assert re.search(r'mask AP [\d.-]+ \(50: .*boundary AP [\d.-]+ .*box AP [\d.-]+ ', lines[0])
    assert '┏' not in printed
    (scalars,) = work.glob('*/vis_data/scalars.json')
    last = json.loads(scalars.read_text().splitlines()[-1])
    shown = float(re.search(r'mask AP ([\d.]+)', lines[0])[1])
    assert shown == pytest.approx(100 * last['coco/segm_mAP'], abs=0.051)
    assert 'coco/boundary_mAP_s' in last


def place(entry: dict) -> tuple:
    return entry['image_id'], -round(entry['score'], 5), entry['segmentation']['counts']


def test_the_summary_holds_what_the_last_validation_found(trained: tuple[Path, str]) -> None:
    work, printed = trained
    summary = work / 'summary'
    assert {path.name for path in summary.iterdir()} == {
        'curves.png', 'report.html', 'precision_recall.png', 'confusion.png', 'sheet.jpg',
        'predictions.json',
    }  # fmt: skip
    assert f'summary of the training: {summary}' in printed
    entries = json.loads((summary / 'predictions.json').read_text())
    assert entries and entries[0]['segmentation']['size'] == [SIZE, SIZE]
    written = json.loads((work.parent / 'data' / 'val.segm.json').read_text())
    assert len(entries) == len(written) > 8
    for ours, metric in zip(sorted(entries, key=place), sorted(written, key=place)):
        assert ours['score'] == pytest.approx(metric['score'], abs=1e-6)
        for name in ('image_id', 'category_id', 'segmentation'):
            assert ours[name] == metric[name]
    assert cv2.imread(str(summary / 'sheet.jpg')).shape[1] > 2 * SIZE


def test_numbers_of_both_protocols_are_summed_up() -> None:
    coco = {
        'coco/segm_mAP': 0.3124,
        'coco/segm_mAP_50': 0.5,
        'coco/boundary_mAP': 0.25,
        'time': 1.0,
    }
    assert compact_scores(coco) == 'mask AP 31.2 (50: 50.0, 75: -)  boundary AP 25.0 (50: -, 75: -)'
    lvis = {'lvis/segm_AP': 0.2, 'lvis/segm_AP50': -1.0, 'lvis/segm_AP75': 0.1}
    assert compact_scores(lvis) == 'mask AP 20.0 (50: -, 75: 10.0)'
    assert compact_scores({'accuracy': 0.5}) == ''


class Frames:
    """A data set of two videos, repeated by a wrapper."""

    metainfo = {'classes': ('a', 'b', 'c')}

    def __init__(self, inner: object = None) -> None:
        if inner is not None:
            self.dataset = inner

    def __len__(self) -> int:
        return 20 if hasattr(self, 'dataset') else 2

    def get_data_info(self, index: int) -> dict:
        return {'images': [{'instances': [1]}, {'instances': [1, 2]}]}


def test_repeated_pictures_count_once_and_frames_have_objects() -> None:
    assert data_facts(Frames(Frames())) == '2 pictures, 6 objects of 3 classes'


def test_tiny_configs_are_quiet_and_stock_ones_untouched() -> None:
    config = Config.fromfile(ROOT / 'configs/refinemask/refinemask_tiny_shapes.py')
    assert RUNNERS.get(config.runner_type) is QuietRunner
    assert config.default_hooks.summary.type == 'TrainingSummaryHook'
    stock = Config.fromstring("_base_ = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'", '.py')
    assert 'runner_type' not in stock


def test_a_log_processor_of_ones_own_stays() -> None:

    runner = QuietRunner.__new__(QuietRunner)
    for kind in ('LogProcessor', LogProcessor):
        built = runner.build_log_processor({'type': kind, 'window_size': 7})
        assert isinstance(built, MaskLogProcessor)
    mine = MaskLogProcessor(window_size=3)
    assert runner.build_log_processor(mine) is mine


def test_errors_of_other_packages_are_never_hidden() -> None:
    from mmrefine.hooks.quiet_runner import _Console

    console = _Console()

    def passes(level: int, text: str) -> bool:
        return bool(console.filter(logging.LogRecord('x', level, '', 0, text, None, None)))

    assert not passes(logging.INFO, 'Config:') and passes(logging.WARNING, 'missing keys')
    assert not passes(logging.WARNING, '"FileClient" will be deprecated in future')
    assert passes(logging.ERROR, 'this deprecated thing failed')
    console.opened = True
    assert passes(logging.INFO, 'loss: 1') and not passes(logging.INFO, 'Exp name: x')
