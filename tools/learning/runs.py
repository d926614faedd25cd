"""Training runs in processes of their own, and what each of them found."""

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock

from mmengine.config import Config

from mmrefine.results.files import atomic_file
from mmrefine.visualization.curves import find_scalars

from .plan import CONFIGS, Job, make_config, require_pictures

PACE_ITERATIONS = (5, 30)
LEAST = 2  # iterations of a run
TRAIN = CONFIGS.parent / 'tools' / 'train.py'


@dataclass(frozen=True)
class Result:
    """What one finished run found.

    Attributes:
        system, data, seed: Which run.
        iterations: Its length in batches.
        minutes: Processor time of the run, evaluation included; of a resumed one, its last part.
        metrics: Every number of the evaluation, by name without prefix, e.g. ``segm_mAP``.
    """

    system: str
    data: str
    seed: int
    iterations: int
    minutes: float
    metrics: dict[str, float]


class Proof:
    """A folder of runs; what is there is not run again.

    Args:
        folder: Where runs and results lie.
        iterations: Length of every run; None for each set's own.
        minutes: Processor minutes of training instead of a number of iterations: the pace of each
            system is measured first.
        threads: Threads of each run.
        jobs: Runs at a time.
    """

    def __init__(
        self,
        folder: Path,
        iterations: int | None = None,
        minutes: float | None = None,
        threads: int = 1,
        jobs: int = 1,
    ) -> None:
        if iterations is not None and minutes is not None:
            raise ValueError('give iterations or minutes, not both')
        for name, value in dict(
            iterations=iterations, minutes=minutes, threads=threads, jobs=jobs
        ).items():
            if value is not None and value <= 0:
                raise ValueError(f'{name} must be positive, not {value}')
        if iterations is not None and iterations < LEAST:
            raise ValueError(f'iterations must be at least {LEAST}: a warm-up and a decay')
        self.folder, self.iterations, self.minutes = folder, iterations, minutes
        self.threads, self.jobs = threads, jobs
        # Looking up another package's config is not safe in threads; a pace is measured once.
        self._configs, self._paces = Lock(), Lock()

    def run(self, plan: Iterable[Job]) -> list[Result]:
        """Run what is missing; results in the order of ``plan``.

        Raises:
            ValueError: A set is not there; nothing was run.
            RuntimeError: Runs failed, or were made with another length; they are named. The others
                are made and kept.
        """
        plan = list(plan)
        for data in dict.fromkeys(job.data for job in plan if not self.finished(job)):
            require_pictures(data)
        failures = []
        # Chains first to last: a run that starts from another one waits for it.
        for wave in ([j for j in plan if not j.start], [j for j in plan if j.start]):
            with ThreadPoolExecutor(self.jobs) as pool:
                for run in [pool.submit(self._report, job) for job in wave]:
                    try:
                        print(run.result(), flush=True)
                    except (OSError, RuntimeError, ValueError) as error:
                        failures.append(str(error))
        if failures:
            raise RuntimeError('; '.join(failures))
        return [self.result(job) for job in plan]

    def result(self, job: Job) -> Result:
        """The stored result of a run."""
        return Result(**json.loads(self._result_file(job).read_text()))

    def finished(self, job: Job) -> bool:
        """Whether the run has a result."""
        return self._result_file(job).is_file()

    def _result_file(self, job: Job) -> Path:
        return self.folder / job.name / 'result.json'

    def _report(self, job: Job) -> str:
        known = self.finished(job)
        self._check_length(job)
        if not known:
            self._train(job)
        result = self.result(job)
        numbers = ', '.join(f'{k} {v:.3f}' for k, v in headline(result.metrics).items())
        return f'{job.name}: {numbers}' + (' (from before)' if known else '')

    def _train(self, job: Job) -> None:
        folder = self.folder / job.name
        start = None if job.start is None else self._last_checkpoint(job.start)
        iterations = self.length(job)
        config = self._config(job, iterations, start)
        if not job.system.proposes:  # what leaderboard.py reads
            config.val_evaluator.outfile_prefix = str(folder / 'results')
        leave_the_end(folder, iterations)
        # A run that resumes forgets what it was to start from.
        resume = ['--resume'] if (folder / 'last_checkpoint').is_file() else []
        seconds = self._process(folder, config, *resume)
        metrics = read_metrics(find_scalars(folder)[-1])
        result = Result(job.system.name, job.data.name, job.seed, iterations, seconds / 60, metrics)
        store(self._result_file(job), asdict(result))

    def _check_length(self, job: Job) -> None:
        file = self.folder / job.name / 'run.py'
        begun = self.finished(job) or file.with_name('last_checkpoint').is_file()
        if not begun:
            return
        with self._configs:
            before = Config.fromfile(file).train_cfg.max_iters
        wanted = self.length(job)
        if before != wanted:
            raise ValueError(
                f'{file.parent} holds a run of {before} iterations, and {wanted} are asked for: '
                f'give --iterations {before}, or another folder'
            )

    def _last_checkpoint(self, job: Job) -> Path:
        if not self.finished(job):
            raise RuntimeError(f'{job.name}, whose weights are needed, has not come to its end')
        return Path((self.folder / job.name / 'last_checkpoint').read_text())

    def _config(self, job: Job, iterations: int, start: Path | None = None) -> Config:
        with self._configs:
            return make_config(job, iterations, start)

    def length(self, job: Job) -> int:
        """Iterations of a run, from the measured pace where minutes were asked for."""
        if self.minutes is None:
            return self.iterations or job.data.iterations
        file = self.folder / job.data.name / job.system.name / 'pace.json'
        with self._paces:
            if not file.is_file():
                self._measure_pace(job, file)
        return max(LEAST, round(60 * self.minutes / json.loads(file.read_text())))

    def _measure_pace(self, job: Job, file: Path) -> None:
        # Each system is paced once, the second step of a chain without the first one's weights.
        seconds = []
        for iterations in PACE_ITERATIONS:
            config = self._config(job, iterations)
            config.train_cfg.val_interval = iterations + 1
            seconds.append(self._process(file.with_name(f'pace{iterations}'), config))
        few, many = PACE_ITERATIONS
        # Processor time: other programs stretch the wall clock.
        store(file, (seconds[1] - seconds[0]) / (many - few))

    def _process(self, folder: Path, config: Config, *options: str) -> float:
        """Train in a process of its own; returns its processor seconds."""
        folder.mkdir(parents=True, exist_ok=True)
        config.dump(folder / 'run.py')
        environment = dict(
            os.environ,
            OMP_NUM_THREADS=str(self.threads),
            OMP_WAIT_POLICY='passive',
            PYTHONWARNINGS='ignore',
        )
        log = folder / 'output.txt'
        command = [sys.executable, TRAIN, folder / 'run.py', '--work-dir', folder, *options]
        with log.open('a') as out:
            child = subprocess.Popen(
                list(map(str, command)), env=environment, stdout=out, stderr=subprocess.STDOUT
            )
            _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise RuntimeError(
                f'training ended with status {child.returncode}, {last_line(log)!r}: see {log}'
            )
        return usage.ru_utime + usage.ru_stime


def leave_the_end(folder: Path, iterations: int) -> None:
    """Let a run that stopped between its last checkpoint and its result resume from an earlier one.

    From the last one it would do nothing, not even evaluate.
    """
    mark = folder / 'last_checkpoint'
    if not mark.is_file() or iteration(Path(mark.read_text())) < iterations:
        return
    earlier = [file for file in folder.glob('iter_*.pth') if iteration(file) < iterations]
    if earlier:
        mark.write_text(str(max(earlier, key=iteration)))
    else:
        mark.unlink()


def iteration(checkpoint: Path) -> int:
    """Of ``iter_N.pth``, N."""
    return int(checkpoint.stem.removeprefix('iter_'))


def last_line(log: Path) -> str:
    """What a failed run said last."""
    return next((line for line in reversed(log.read_text().splitlines()) if line.strip()), '')


def headline(metrics: Mapping[str, float]) -> dict[str, float]:
    """The few numbers that say how a run went."""
    names = ('segm_mAP', 'boundary_mAP', 'segm_AR@100')
    return {name: metrics[name] for name in names if name in metrics}


def read_metrics(scalars: Path) -> dict[str, float]:
    """Numbers of the last evaluation in a log.

    Raises:
        ValueError: There is none, or the loss left the numbers on the way.
    """
    records = [json.loads(line) for line in scalars.read_text().splitlines()]
    lost = [r['iter'] for r in records if not math.isfinite(r.get('loss', 0.0))]
    if lost:
        raise ValueError(f'the loss is not finite at iteration {lost[0]}: see {scalars}')
    found = [r for r in records if any(re.search('/.*_(mAP|AR)', name) for name in r)]
    if not found:
        raise ValueError(f'{scalars} holds no evaluation')
    return {name.split('/', 1)[1]: value for name, value in found[-1].items() if '/' in name}


def store(file: Path, value: object) -> None:
    """Write a value as JSON, whole or not at all."""
    with atomic_file(file) as out:
        json.dump(value, out, indent=1)
