"""Results as tables for the log."""

from rich.console import Console
from rich.table import Table

from mmrefine.results.ground_truth import GroundTruth

from .evaluate import Evaluation, distinct_names


def result_table(found: Evaluation) -> str:
    """One row an IoU type, one column a number."""
    rows: dict[str, dict[str, float]] = {}
    for name, value in found.numbers.items():
        iou_type, _, short = name.partition('_')
        rows.setdefault(iou_type, {})[short] = value
    names = list(dict.fromkeys(short for row in rows.values() for short in row))
    lines = [
        [iou_type, *(_show(row[n]) if n in row else '' for n in names)]
        for iou_type, row in rows.items()
    ]
    return _draw(['', *names], lines)


def category_table(found: Evaluation, gt: GroundTruth) -> str:
    """One row a category, one column an IoU type."""
    lines = [
        [name, *(_show(values[category]) for values in found.per_category.values())]
        for category, name in distinct_names(gt).items()
    ]
    return _draw(['category', *(f'{iou_type} AP' for iou_type in found.per_category)], lines)


def _show(value: float) -> str:
    return '-' if value < 0 else f'{value:.4f}'


def _draw(header: list[str], lines: list[list[str]]) -> str:
    table = Table(*header)
    for line in lines:
        table.add_row(*line)
    # Categories have any name: `x [/b]` and `:car:` are no markup.
    console = Console(width=max(80, 12 * len(header)), color_system=None, markup=False, emoji=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get()
