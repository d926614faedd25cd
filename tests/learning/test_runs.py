"""Runs that are kept, resumed, paced and refused."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from learning import runs
from learning.plan import SETS, SYSTEMS, Job, plan
from learning.runs import Proof, leave_the_end, read_metrics
from locations import ROOT
from mmengine.config import Config

# In place of a training: writes the log of one, and what it was asked for.
TRAINER = """
import json, sys
from pathlib import Path
work_dir, config = Path(sys.argv[sys.argv.index('--work-dir') + 1]), {}
exec(Path(sys.argv[1]).read_text(), config)  # a dumped config is plain assignments
iterations = config['train_cfg']['max_iters']
if (work_dir / 'broken').exists():
    print('out of luck\\n')
    sys.exit(3)
log = work_dir / '20260101_000000/vis_data/scalars.json'
log.parent.mkdir(parents=True, exist_ok=True)
lines = dict(loss=1.0, iter=1), {'coco/segm_mAP': 0.25, 'step': 1}
log.write_text('\\n'.join(map(json.dumps, lines)))
checkpoint = work_dir / f'iter_{iterations}.pth'
checkpoint.touch()
(work_dir / 'last_checkpoint').write_text(str(checkpoint))
with (work_dir / 'asked.txt').open('a') as asked:
    start = 'resumed' if '--resume' in sys.argv else config.get('load_from')
    asked.write(f'{iterations} {start}\\n')
"""


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for set_name, variable in (('nuclei', 'MMREFINE_NUCLEI'), ('shapes', 'MMREFINE_SHAPES')):
        annotations = tmp_path / set_name / 'annotations'
        annotations.mkdir(parents=True)
        for name in ('train', 'val', 'train_tiny', 'val_tiny'):
            (annotations / f'instances_{name}.json').touch()
        monkeypatch.setenv(variable, str(tmp_path / set_name))
    path = tmp_path / 'trainer.py'
    path.write_text(TRAINER)
    monkeypatch.setattr(runs, 'TRAIN', path)
    return tmp_path / 'proof'


def asked(folder: Path, job: Job) -> list[str]:
    return (folder / job.name / 'asked.txt').read_text().splitlines()


def test_what_is_there_is_not_run_again(trainer: Path, capsys: pytest.CaptureFixture) -> None:
    jobs = plan(['mask-rcnn', 'sipmask'], ['nuclei'], [0])
    first = Proof(trainer, iterations=2).run(jobs[:1])
    assert first[0].metrics == {'segm_mAP': 0.25}
    assert (first[0].system, first[0].data, first[0].seed) == ('mask-rcnn', 'nuclei', 0)
    both = Proof(trainer, iterations=2, jobs=2).run(jobs)
    assert both[0] == first[0]
    assert [asked(trainer, job) for job in jobs] == [['2 None'], ['2 None']]
    folder = trainer / jobs[0].name
    evaluator = Config.fromfile(folder / 'run.py').val_evaluator
    assert evaluator.outfile_prefix == str(folder / 'results')
    assert 'mask-rcnn/seed0: segm_mAP 0.250 (from before)' in capsys.readouterr().out


def test_a_failed_run_is_named_and_the_others_are_made(trainer: Path) -> None:
    jobs = plan(['mask-rcnn', 'sipmask', 'yolact', 'condinst'], ['nuclei'], [0])
    broken = trainer / jobs[0].name / 'broken'
    broken.parent.mkdir(parents=True)
    broken.touch()
    message = "status 3, 'out of luck': see .*nuclei/mask-rcnn/seed0/output.txt"
    with pytest.raises(RuntimeError, match=message):
        Proof(trainer, iterations=2).run(jobs)
    assert [Proof(trainer).finished(job) for job in jobs] == [False, True, True, True]
    broken.unlink()
    assert len(Proof(trainer, iterations=2).run(jobs)) == 4


def test_the_second_of_a_chain_starts_from_the_first_of_its_seed(trainer: Path) -> None:
    jobs = plan(['sharpmask'], ['shapes'], [0, 1])
    Proof(trainer, iterations=2, jobs=2).run(jobs)
    starts = [asked(trainer, job)[0].split()[1] for job in jobs if job.system.name == 'sharpmask']
    expected = [trainer / f'shapes/deepmask/seed{seed}/iter_2.pth' for seed in (0, 1)]
    assert starts == list(map(str, expected))


def stop(folder: Path, at: int) -> None:
    """Leave a finished run as one that stopped after this checkpoint."""
    (folder / 'result.json').unlink()
    (folder / f'iter_{at}.pth').touch()
    (folder / 'last_checkpoint').write_text(str(folder / f'iter_{at}.pth'))


def test_an_interrupted_run_goes_on_and_a_fresh_one_starts_from_its_weights(trainer: Path) -> None:
    first, second = plan(['sharpmask'], ['shapes'], [0])
    Proof(trainer, iterations=4).run([first, second])
    stop(trainer / second.name, at=2)
    Proof(trainer, iterations=4).run([first, second])
    start = trainer / 'shapes/deepmask/seed0/iter_4.pth'
    assert asked(trainer, second) == [f'4 {start}', '4 resumed']


def test_a_run_stopped_in_its_evaluation_makes_it_again(trainer: Path) -> None:
    (job,) = plan(['sipmask'], ['nuclei'], [0])
    folder = trainer / job.name
    Proof(trainer, iterations=300).run([job])
    stop(folder, at=300)  # the checkpoint before is gone: from the beginning
    Proof(trainer, iterations=300).run([job])
    assert asked(trainer, job) == ['300 None', '300 None']
    stop(folder, at=75)
    stop_at_the_end = folder / 'last_checkpoint'
    stop_at_the_end.write_text(str(folder / 'iter_300.pth'))
    (folder / 'iter_150.pth').touch()
    leave_the_end(folder, 300)
    assert stop_at_the_end.read_text() == str(folder / 'iter_150.pth')
    Proof(trainer, iterations=300).run([job])
    assert asked(trainer, job)[-1] == '300 resumed'


def test_sets_that_are_not_there_are_told_before_any_run(
    trainer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('MMREFINE_NUCLEI', '/nowhere')
    jobs = plan(['mask-rcnn'], ['shapes', 'nuclei'], [0])
    with pytest.raises(ValueError, match='no /nowhere/annotations/instances_train_tiny.json'):
        Proof(trainer, iterations=2).run(jobs)
    assert not trainer.exists()


def test_a_run_that_failed_at_once_may_be_made_with_another_length(trainer: Path) -> None:
    (job,) = plan(['mask-rcnn'], ['nuclei'], [0])
    broken = trainer / job.name / 'broken'
    broken.parent.mkdir(parents=True)
    broken.touch()
    with pytest.raises(RuntimeError):
        Proof(trainer, iterations=3).run([job])
    broken.unlink()
    assert Proof(trainer, iterations=2).run([job])[0].iterations == 2


def test_runs_of_another_length_are_not_mixed_in(trainer: Path) -> None:
    jobs = plan(['mask-rcnn', 'sipmask'], ['nuclei'], [0])
    Proof(trainer, iterations=2).run(jobs)
    stop(trainer / jobs[1].name, at=1)
    for job in jobs:  # one at its end, one on its way
        with pytest.raises(RuntimeError, match=f'{job.name} holds a run of 2 .* --iterations 2'):
            Proof(trainer, iterations=3).run([job])
    assert asked(trainer, jobs[0]) == ['2 None']


def test_nothing_starts_from_a_run_on_its_way(trainer: Path) -> None:
    jobs = plan(['sharpmask'], ['shapes'], [0])
    Proof(trainer, iterations=2).run(jobs[:1])
    first = trainer / jobs[0].name
    (first / 'result.json').unlink()
    (first / 'broken').touch()
    with pytest.raises(RuntimeError, match='shapes/deepmask/seed0, whose weights are needed'):
        Proof(trainer, iterations=2).run(jobs)
    assert not (trainer / jobs[1].name / 'asked.txt').exists()


def test_minutes_become_iterations_by_the_pace_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []

    def process(self: Proof, folder: Path, config: Config, *options: str) -> float:
        trained.append(config.train_cfg.max_iters)
        assert config.train_cfg.val_interval > config.train_cfg.max_iters
        return 7.0 + 0.25 * config.train_cfg.max_iters  # what starting takes does not count

    monkeypatch.setattr(Proof, '_process', process)
    (job,) = plan(['mask-rcnn'], ['nuclei'], [0])
    assert Proof(tmp_path, minutes=3.0).length(job) == 720
    assert Proof(tmp_path, minutes=1.5).length(job) == 360
    assert Proof(tmp_path, minutes=0.001).length(job) == 2
    assert len(trained) == 2  # paced once
    trained.clear()
    with ThreadPoolExecutor(3) as pool:
        lengths = pool.map(Proof(tmp_path / 'new', minutes=3.0).length, [job] * 3)
        assert list(lengths) == [720] * 3
    assert len(trained) == 2


def test_set_gives_the_length_by_default(tmp_path: Path) -> None:
    job = Job(SYSTEMS['sipmask'], SETS['shapes'], 0)
    assert Proof(tmp_path).length(job) == 1000
    assert Proof(tmp_path, iterations=7).length(job) == 7


def test_a_run_is_long_enough_for_its_schedule(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='at least 2'):
        Proof(tmp_path, iterations=1)


@pytest.mark.parametrize('options', [dict(iterations=0), dict(minutes=-1.0), dict(jobs=0)])
def test_lengths_must_be_positive(options: dict, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f'{next(iter(options))} must be positive'):
        Proof(tmp_path, **options)


def test_minutes_and_iterations_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='not both'):
        Proof(tmp_path, iterations=10, minutes=1.0)


def test_numbers_are_of_the_last_evaluation(tmp_path: Path) -> None:
    log = tmp_path / 'scalars.json'
    lines = [
        dict(loss=2.0, iter=1),
        {'coco/segm_mAP': 0.1, 'coco/segm_AP/star': 0.2, 'step': 1},
        dict(loss=1.0, iter=2),
        {'coco/segm_mAP': 0.3, 'data_time': 0.1, 'step': 2},
    ]
    log.write_text('\n'.join(map(json.dumps, lines)))
    assert read_metrics(log) == {'segm_mAP': 0.3}
    log.write_text(json.dumps(lines[0]))
    with pytest.raises(ValueError, match='no evaluation'):
        read_metrics(log)
    log.write_text(json.dumps(dict(loss=float('nan'), iter=40)))
    with pytest.raises(ValueError, match='not finite at iteration 40'):
        read_metrics(log)


@pytest.mark.slow
def test_the_command_trains_compares_and_draws(tmp_path: Path) -> None:
    shapes = tmp_path / 'shapes'
    make = [sys.executable, ROOT / 'tools/make_shapes.py', shapes, '--num', '8', '--size', '96']
    subprocess.run(list(map(str, make)), check=True)
    command = [
        *(sys.executable, ROOT / 'tools/learning_proof.py', tmp_path / 'out', '--iterations', 2),
        *('--systems', 'sipmask', 'sipmask-1x1', 'sharpmask', '--seeds', 0),
    ]
    environment = {**os.environ, 'MMREFINE_SHAPES': str(shapes)}
    subprocess.run(list(map(str, command)), check=True, env=environment)
    results = json.loads((tmp_path / 'out/results.json').read_text())
    assert [r['system'] for r in results] == ['sipmask', 'sipmask-1x1', 'deepmask', 'sharpmask']
    assert all(r['iterations'] == 2 for r in results)
    report = (tmp_path / 'out/learning.md').read_text()
    assert 'SipMask 2x2 above 1x1 | shapes | mask AP' in report
    for picture in ('learning.png', 'losses.png'):
        assert (tmp_path / 'out' / picture).stat().st_size > 5000
    start = Config.fromfile(tmp_path / 'out/shapes/sharpmask/seed0/run.py').load_from
    assert start == str(tmp_path / 'out/shapes/deepmask/seed0/iter_2.pth')
