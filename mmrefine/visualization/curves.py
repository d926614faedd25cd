"""Plot a training run: losses and mask AP over iterations."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

# By COCO's and by LVIS's rules; the first in a record counts.
AP_KEYS = ('segm_mAP', 'segm_AP')


@dataclass
class Run:
    """What a training run wrote about itself."""

    # name -> (step, value) pairs; 'loss' is the sum
    losses: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    aps: list[tuple[int, float]] = field(default_factory=list)  # (step, mask AP) pairs


def find_scalars(work_dir: str | Path) -> list[Path]:
    """Return the ``scalars.json`` of all trainings below a work folder, the newest last."""
    logs = Path(work_dir).glob('**/vis_data/scalars.json')
    # A test in the same folder writes a log, too.
    found = [log for log in logs if '"loss"' in log.read_text()]
    if not found:
        raise FileNotFoundError(f'no training log (vis_data/scalars.json) below {work_dir}')
    # RUN/vis_data/scalars.json: a run's folder is named by date and time, what lies above is not.
    return sorted(found, key=lambda log: (log.parents[1].name, log))


def read_run(logs: Sequence[Path]) -> Run:
    """Read the newest of some logs, MMEngine's ``scalars.json``, and what it resumed from the ones
    before it in the list."""
    *earlier, newest = logs
    run = _read_log(newest)
    while earlier and (start := _resumed_at(run)):
        before = _read_log(earlier.pop())
        for name in {**before.losses, **run.losses}:
            kept = [point for point in before.losses.get(name, ()) if point[0] < start]
            run.losses[name] = kept + run.losses.get(name, [])
        run.aps = [point for point in before.aps if point[0] < start] + run.aps
    return run


def _resumed_at(run: Run) -> int:
    """The first step of a run that does not begin at the beginning, else 0."""
    steps = [step for step, _ in run.losses.get('loss', ())]
    interval = steps[1] - steps[0] if len(steps) > 1 else 1
    return steps[0] if steps and steps[0] > interval else 0


def _read_log(scalars: Path) -> Run:
    """Collect losses and mask APs; lines that were cut off by an interruption are left out."""
    run, step = Run(), 0
    for line in scalars.read_text().splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        # Validation lines count steps differently, so they take the last training step.
        if 'loss' in record:
            step = int(record.get('iter', record.get('step', step)))
            for name, value in record.items():
                if 'loss' in name.split('.')[-1]:  # `s0.loss_mask` of a cascade
                    run.losses.setdefault(name, []).append((step, float(value)))
        ap = next((record[name] for name in record if name.split('/')[-1] in AP_KEYS), None)
        if ap is not None:
            run.aps.append((step, float(ap)))
    return run


def plot_run(run: Run, out: str | Path, title: str = '') -> None:
    """Draw losses (left axis) and mask AP (right axis) into a picture file."""
    out = Path(out)
    # Without a suffix, matplotlib would choose one and write another file than the one named.
    if not out.suffix or out.is_dir():
        raise ValueError(f'{out} names no picture file: give one with a suffix, as in {out}.png')
    if 'loss' not in run.losses:
        raise ValueError('the log holds no training loss to plot')
    # matplotlib is slow to import and needs no display here.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout='constrained')
    axes = figure.subplots()
    for name, points in run.losses.items():
        total = name == 'loss'
        axes.plot(*zip(*points), label=name, linewidth=2 if total else 1, alpha=1 if total else 0.7)
    axes.set(xlabel='iteration', ylabel='loss', ylim=(0, None), title=title)
    axes.grid(alpha=0.3)
    axes.legend(fontsize='small', loc='upper center', ncols=3)
    if run.aps:
        right = axes.twinx()
        right.plot(*zip(*run.aps), 'ko--', label='mask AP')
        right.set(ylabel='mask AP', ylim=(0, max(0.5, 1.1 * max(ap for _, ap in run.aps))))
        right.annotate(f'{run.aps[-1][1]:.3f}', run.aps[-1], (-8, 8), textcoords='offset points')
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110)
