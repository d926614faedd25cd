"""Table, claims and plot of a learning proof."""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from .claims import findings, scatter
from .runs import Result

COLUMNS = {
    'segm_mAP': 'mask AP',
    'boundary_mAP': 'boundary AP',
    'segm_AR@100': 'AR@100',
    'bbox_mAP': 'box AP',
    'segm_mAP_s': 'small',
    'segm_mAP_m': 'medium',
    'segm_mAP_l': 'large',
}


def group(results: Sequence[Result]) -> dict[str, dict[str, list[Result]]]:
    """Results by set and system, in the order they come."""
    table: dict[str, dict[str, list[Result]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        table[result.data][result.system].append(result)
    return table


def values(runs: Sequence[Result], metric: str) -> list[float]:
    """One number of several runs, in per cent; nothing where it was not measured."""
    return [100 * run.metrics[metric] for run in runs if run.metrics.get(metric, -1) >= 0]


def cell(numbers: Sequence[float], digits: int = 1) -> str:
    """Mean and standard deviation, as in ``41.2 ± 0.5``."""
    if not numbers:
        return ''
    mean = f'{statistics.fmean(numbers):.{digits}f}'
    if len(numbers) == 1:
        return mean
    return f'{mean} ± {scatter(numbers):.{digits}f}'


def markdown(results: Sequence[Result]) -> str:
    """Tables of all sets, then the claims."""
    lines = []
    for data, systems in group(results).items():
        lines += [
            f'### {data}',
            '',
            row(['system', 'seeds', 'iterations', 'min', *COLUMNS.values()]),
        ]
        lines.append('|---' * (4 + len(COLUMNS)) + '|')
        for system, runs in systems.items():
            head = [
                system,
                str(len(runs)),
                cell([run.iterations for run in runs], 0).split(' ')[0],
                cell([run.minutes for run in runs]).split(' ')[0],
            ]
            lines.append(row([*head, *(cell(values(runs, metric)) for metric in COLUMNS)]))
        lines.append('')
    lines += ['### Claims', '', row(['claim', 'set', 'number', 'difference or ratio', 'seeds', ''])]
    lines.append('|---' * 6 + '|')
    for found in findings(results):
        if found.claim.ratio:
            mean, std, unit = f'{found.mean:.2f}', f'{found.std:.2f}', ' times'
        else:
            mean, std, unit = f'{100 * found.mean:+.1f}', f'{100 * found.std:.1f}', ''
        spread = (f'{mean} ± {std}' if found.seeds > 1 else mean) + unit
        name = COLUMNS.get(found.metric, found.metric)
        lines.append(
            row([found.claim.text, found.data, name, spread, str(found.seeds), found.verdict])
        )
    return '\n'.join(lines) + '\n'


def row(cells: Sequence[str]) -> str:
    """A line of a Markdown table."""
    return f'| {" | ".join(cells)} |'


def plot(results: Sequence[Result], out: Path) -> None:
    """Bars of mask and boundary AP, or of AR@100 where there is no AP, with their spread.

    Raises:
        ValueError: There is no result.
    """
    if not results:
        raise ValueError('there is no result to plot')
    # matplotlib is slow to import and needs no display here.
    from matplotlib.figure import Figure

    table = group(results)
    figure = Figure(figsize=(9, 3.2 * len(table)), layout='constrained')
    for axes, (data, systems) in zip(
        figure.subplots(len(table), squeeze=False)[:, 0], table.items()
    ):
        for k, metric in enumerate(('segm_mAP', 'boundary_mAP', 'segm_AR@100')):
            bars = [
                (place, values(runs, metric))
                for place, runs in enumerate(systems.values())
                if values(runs, metric)
            ]
            axes.bar(
                [place + 0.27 * (k - 1) for place, _ in bars],
                [statistics.fmean(numbers) for _, numbers in bars],
                0.25,
                yerr=[scatter(numbers) for _, numbers in bars],
                label=COLUMNS[metric],
                capsize=2,
            )
        axes.set_xticks(range(len(systems)), systems, rotation=20, ha='right', fontsize='small')
        axes.set(title=data, ylabel='per cent')
        axes.grid(axis='y', alpha=0.3)
        axes.legend(fontsize='small')
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110)
