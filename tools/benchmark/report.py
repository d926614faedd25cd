"""Tables of measured rows, in Markdown."""

import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Rows = Sequence[dict[str, Any]]
START = '<!-- measured on {device}: begin (written by tools/benchmark.py --markdown) -->'
STOP = '<!-- measured on {device}: end -->'
CLAIMS = {'work': ('same work', 'other work'), 'limit': ('kept', 'not kept')}


def check_document(path: Path, device: str, ids: Iterable[str]) -> None:
    """Make sure, before hours of measuring, that a document can take the tables.

    Args:
        path: The document.
        device: Whose section is to be replaced.
        ids: Benchmarks that will have rows.

    Raises:
        OSError: It cannot be written.
        ValueError: As ``write_markdown``.
    """
    if path.exists():
        path.open('a').close()
    elif not path.parent.is_dir():
        raise FileNotFoundError(f'there is no folder {path.parent}')
    _divide(path, device, set(ids))


def write_markdown(path: Path, rows: Rows) -> None:
    """Replace the measured section of a document, or begin a document with it.

    The section of the rows' device lies between two marks; what is around them stays.

    Args:
        path: The document.
        rows: From ``runner.Store``, all of one device.

    Raises:
        ValueError: There are no rows, the document has a first mark without a second one, or it
            shows benchmarks of which there are no rows.
    """
    if not rows:
        raise ValueError(f'nothing measured, {path} is left as it is')
    device = rows[0]['settings']['device']
    begin, end = (mark.format(device=device) for mark in (START, STOP))
    before, after = _divide(path, device, {row['id'] for row in rows})
    path.write_text(f'{before}{begin}\n{tables(rows)}\n{end}{after}')


def _divide(path: Path, device: str, ids: set[str]) -> tuple[str, str]:
    """What stands before and after the section of a device."""
    begin, end = (mark.format(device=device) for mark in (START, STOP))
    text = path.read_text() if path.exists() else '# Benchmarks\n'
    before, mark, rest = text.partition(begin)
    if not mark:
        return f'{text.rstrip()}\n\n', '\n'
    section, mark, after = rest.partition(end)
    if not mark:
        raise ValueError(f'{path} has no line {end!r}: restore it')
    if lost := sorted(_shown(section) - ids):
        raise ValueError(
            f'{path} shows {", ".join(lost)}, of which nothing is measured here: measure all of it '
            '(rows in the --json file count), or name another document'
        )
    return before, after


def _shown(section: str) -> set[str]:
    """Benchmarks in the tables of a section."""
    blocks = [b for b in section.split('### ') if b.startswith(('Formulations', 'Pairs'))]
    lines = [line for block in blocks for line in block.splitlines() if line.startswith('| ')]
    return {line.split('|')[1].strip() for line in lines} - {'', '---'}


def tables(rows: Rows) -> str:
    """The machine, then one table per kind of comparison; empty ones are left out."""
    models = [row for row in rows if 'model' in row['details']]
    pairs = [row for row in rows if row['id'] == 'B7' and 'model' not in row['details']]
    grown = [row for row in rows if row['id'] == 'growth']
    plain = [
        row for row in rows if 'model' not in row['details'] and row['id'] not in ('B7', 'growth')
    ]
    blocks = [textwrap.fill(machine(rows[0]['settings']), 120, break_on_hyphens=False)]
    if plain:
        blocks += ['### Formulations', formulations(plain)]
    scenes = list(dict.fromkeys(row['details']['scene'] for row in models))
    for scene in scenes:
        own = [row for row in models if row['details']['scene'] == scene]
        blocks += [f'### {scene[0].upper()}{scene[1:]}', beside_baseline(own)]
    if pairs:
        blocks += ['### Pairs', formulations(pairs)]
    if grown:
        blocks += ['### Growth', growth(grown)]
    return '\n\n'.join(blocks)


def machine(settings: dict[str, Any]) -> str:
    """Where it was measured, in a paragraph."""
    hardware = (
        f'{settings["gpu"]}; host {settings["processor"]}'
        if settings['gpu']
        else f'{settings["processor"]} ({settings["instructions"]}), {settings["cores"]} cores'
    )
    threads = f'{settings["threads"]} thread{"s" if settings["threads"] > 1 else ""}'
    packages = ', '.join(
        f'{name} {settings[name]}' for name in ('torch', 'mmcv', 'mmdet', 'mmengine', 'mmrefine')
    )
    text = (
        f'{hardware}, {settings["memory_gib"]} GiB, frequency governor {settings["governor"]}; '
        f'{threads}; {settings["system"]}, Python {settings["python"]}, {packages}; '
        f'commit {settings["commit"]}, {settings["date"]}.'
    )
    if settings['quick']:
        text += ' **Smoke run: the sizes are too small to mean anything.**'
    return text


def formulations(rows: Rows) -> str:
    """Ours against a peer: time and memory, peer / ours, and what the equality says."""
    head = ('', 'case', 'time, best', 'time, median', 'memory', 'difference', '')
    lines = []
    for row in rows:
        details = row['details']
        lines.append(
            (
                row['id'],
                row['case'],
                times(row['time_ratio']),
                times(details.get('median_time_ratio')),
                times(row['memory_ratio']),
                f'{row["max_error"]:.0e}' if row['claim'] == 'outputs' else '',
                verdict(row),
            )
        )
    return table(head, lines)


def beside_baseline(rows: Rows) -> str:
    """Models of one scene; the first is the baseline, ratios are model / baseline."""
    counted = 'flops' in rows[0]['details']
    base = rows[0]['details']['model']
    head = ['model', f'time / {base}, best', 'median', 'memory, MiB', f'memory / {base}']
    head += ['parameters, M'] + ['GFLOPs'] * counted
    lines = []
    for row in rows:
        details = row['details']
        cells = [
            details['model'],
            times(details['latency_ratio']),
            times(1 / details['median_time_ratio']),
            f'{details["memory_ours_mib"]:.0f}',
            times(1 / row['memory_ratio']),
            f'{details["parameters"] / 1e6:.1f}',
        ]
        lines.append([*cells, f'{details["flops"] / 1e9:.0f}'] if counted else cells)
    return table(head, lines)


def growth(rows: Rows) -> str:
    """Factors from the smallest number to the largest; the claim is about every step between."""
    head = ('', 'of', 'numbers', 'factor', 'time', 'memory', '')
    lines = []
    for row in rows:
        details = row['details']
        numbers = details['numbers']
        cells = [f'{n:,}' for n in numbers]
        factors = [numbers[-1] / numbers[0], 1 / row['time_ratio'], 1 / row['memory_ratio']]
        lines.append(
            [details['counted'], details['system'], ', '.join(cells)]
            + [times(factor) for factor in factors]
            + ['never faster' if row['equal'] else '**faster**']
        )
    return table(head, lines) + '\n\n![time and memory by number](images/growth.png)'


def verdict(row: dict[str, Any]) -> str:
    """What became of the row's claim."""
    kept, broken = CLAIMS.get(row['claim'], ('equal', 'different'))
    figure = f': {row["details"]["figure"]}' if 'figure' in row['details'] else ''
    return (kept if row['equal'] else f'**{broken}**') + figure


def times(ratio: float | None) -> str:
    """A ratio with three digits."""
    if ratio is None:
        return ''
    return f'{ratio:.0f}' if ratio >= 100 else f'{ratio:.3g}' if ratio >= 10 else f'{ratio:.2f}'


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table; bars in the cells are escaped."""
    body = [[cell.replace('|', '\\|') for cell in line] for line in lines]
    rows = [list(head), ['---'] * len(head), *body]
    return '\n'.join(f'| {" | ".join(row)} |' for row in rows)
