"""What is summed up, and what is not."""

import json
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.fileio import LocalBackend, register_backend
from mmengine.structures import InstanceData
from report_data import NAMES, write_report_data

from mmrefine.evaluation.mask_ap_metric import MaskAPMetric
from mmrefine.evaluation.proposal_ar import ProposalARMetric
from mmrefine.hooks.training_summary import TrainingSummaryHook


class Images:
    """A data set of the report's images."""

    def __init__(self, gt: Path, pictures: Path) -> None:
        self.ann_file, self.data_prefix = str(gt), {'img': str(pictures)}
        self.metainfo = {'classes': tuple(NAMES.values())}

    def __len__(self) -> int:
        return 5


def runner_of(dataset: object, metric: object, work_dir: Path) -> SimpleNamespace:
    """What the hook asks of a runner; losses of two steps are in its log."""
    log = work_dir / '20260101_000000' / 'vis_data' / 'scalars.json'
    log.parent.mkdir(parents=True)
    log.write_text('{"loss": 2.0, "iter": 1}\n{"loss": 1.0, "iter": 2}\n')
    said: list[str] = []
    logger = SimpleNamespace(info=said.append, warning=said.append, level=20)
    return SimpleNamespace(
        val_dataloader=SimpleNamespace(dataset=dataset),
        val_evaluator=SimpleNamespace(metrics=[metric]),
        work_dir=str(work_dir),
        logger=logger,
        cfg={},
        said=said,
    )


def validate(hook: TrainingSummaryHook, runner: SimpleNamespace, entries: list[dict]) -> None:
    """Run a validation whose model finds the given entries."""
    hook.before_val_epoch(runner)
    labels = {category: i for i, category in enumerate(NAMES)}
    for image in range(5):
        own = [e for e in entries if e['image_id'] == image]
        boxes = torch.tensor([e['bbox'] for e in own], dtype=torch.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        sample = DetDataSample(metainfo={'img_id': image, 'ori_shape': (96, 96)})
        sample.pred_instances = InstanceData(
            bboxes=boxes,
            scores=torch.tensor([e['score'] for e in own]),
            labels=torch.tensor([labels[e['category_id']] for e in own]),
        )
        sample.pred_instances.masks = [e['segmentation'] for e in own]
        hook.after_val_iter(runner, image, outputs=[sample])
    hook.after_val_epoch(runner)


@pytest.fixture
def data(tmp_path: Path) -> tuple[Images, dict[str, list[dict]]]:
    gt, pictures, sharp, blunt = write_report_data(tmp_path)
    found = {'sharp': json.loads(sharp.read_text()), 'blunt': json.loads(blunt.read_text())}
    return Images(gt, pictures), found


def test_the_last_validation_counts(data: tuple, tmp_path: Path) -> None:
    dataset, found = data
    runner = runner_of(dataset, MaskAPMetric(dataset.ann_file), tmp_path / 'work')
    hook = TrainingSummaryHook(worst=1)
    validate(hook, runner, found['blunt'])
    validate(hook, runner, found['sharp'])
    hook.after_train(runner)
    summary = tmp_path / 'work' / 'summary'
    assert runner.said == [f'summary of the training: {summary}'] and runner.logger.level == 20
    written = json.loads((summary / 'predictions.json').read_text())
    key = ('image_id', 'category_id', 'segmentation')
    assert [[e[k] for k in key] for e in written] == [[e[k] for k in key] for e in found['sharp']]
    assert np.allclose([e['score'] for e in written], 0.9)
    assert '100.0' in (summary / 'report.html').read_text()


def test_proposals_and_other_formats_have_curves_alone(data: tuple, tmp_path: Path) -> None:
    dataset, found = data
    (tmp_path / 'videos.json').write_text('{"videos": []}')
    videos = Images(tmp_path / 'videos.json', tmp_path)
    for name, runner in (
        ('a', runner_of(dataset, ProposalARMetric(dataset.ann_file), tmp_path / 'a')),
        ('b', runner_of(videos, MaskAPMetric(dataset.ann_file), tmp_path / 'b')),
        ('c', runner_of(SimpleNamespace(ann_file=''), None, tmp_path / 'c')),
    ):
        hook = TrainingSummaryHook()
        if name != 'c':
            validate(hook, runner, found['sharp'])
        hook.after_train(runner)
        assert [p.name for p in (tmp_path / name / 'summary').iterdir()] == ['curves.png']


def test_what_goes_wrong_does_not_end_the_training(data: tuple, tmp_path: Path) -> None:
    dataset, found = data
    runner = runner_of(dataset, MaskAPMetric(dataset.ann_file), tmp_path / 'work')
    hook = TrainingSummaryHook()
    validate(hook, runner, found['sharp'])
    dataset.data_prefix = {'img': str(tmp_path / 'gone')}
    hook.after_train(runner)
    assert runner.said[0].startswith('no complete summary in ') and 'gone' in runner.said[0]
    runner = runner_of(dataset, MaskAPMetric(dataset.ann_file), tmp_path / 'diverged')
    validate(hook, runner, [{**found['sharp'][0], 'score': float('nan')}])
    hook.after_train(runner)
    assert 'diverged' in runner.said[0] and 'score nan' in runner.said[0]


class FarBackend(LocalBackend):
    """Files of a local folder under the addresses ``far://NAME``."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def get_local_path(self, filepath: str) -> AbstractContextManager:
        return super().get_local_path(self.folder / str(filepath).removeprefix('far://'))


def test_annotations_are_read_where_the_data_set_reads_them(data: tuple, tmp_path: Path) -> None:
    register_backend('far', FarBackend, prefixes='far', force=True)
    dataset, found = data
    near = Path(dataset.ann_file)
    dataset.backend_args = {'folder': str(near.parent)}
    for number, (name, said) in enumerate(
        [(near.name, 'summary of the training: '), ('none.json', 'no complete summary in ')]
    ):
        dataset.ann_file = f'far://{name}'
        runner = runner_of(dataset, MaskAPMetric(str(near)), tmp_path / str(number))
        hook = TrainingSummaryHook()
        validate(hook, runner, found['sharp'])
        hook.after_train(runner)
        assert runner.said[0].startswith(said)
    assert 'none.json' in runner.said[0]
    written = [{path.name for path in (tmp_path / n / 'summary').iterdir()} for n in ('0', '1')]
    assert 'report.html' in written[0] and written[1] == {'curves.png'}
