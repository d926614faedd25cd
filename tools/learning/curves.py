"""Losses of the runs of a proof over their iterations."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmrefine.visualization.curves import find_scalars, read_run

from .runs import Result
from .summary import group

Curve = tuple[np.ndarray, np.ndarray]  # steps, values


def losses(folder: Path, results: Sequence[Result]) -> dict[str, dict[str, Curve]]:
    """Mean over the seeds of every system's loss, by set and system.

    Systems sum other losses, so each run's is a share of what it has written first. Where runs
    differ in length (``--minutes``), the mean ends with the shortest.
    """
    curves: dict[str, dict[str, Curve]] = {}
    for data, systems in group(results).items():
        for system, runs in systems.items():
            logs = [folder / data / system / f'seed{run.seed}' for run in runs]
            points = [np.array(read_run(find_scalars(log)).losses['loss']) for log in logs]
            steps = min(points, key=len)[:, 0]
            shares = [np.interp(steps, p[:, 0], p[:, 1] / p[0, 1]) for p in points]
            curves.setdefault(data, {})[system] = steps, np.mean(shares, axis=0)
    return curves


def plot_losses(curves: dict[str, dict[str, Curve]], out: Path) -> None:
    """Draw them, one plot a set."""
    # matplotlib is slow to import and needs no display here.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2 * len(curves)), layout='constrained')
    plots = figure.subplots(len(curves), squeeze=False)[:, 0]
    for axes, (data, systems) in zip(plots, curves.items()):
        for system, curve in systems.items():
            axes.plot(*curve, label=system)
        axes.set(title=data, xlabel='iteration', ylabel='loss / first loss', ylim=(0, 1.05))
        axes.grid(alpha=0.3)
        axes.legend(fontsize='small', ncols=2)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110)
