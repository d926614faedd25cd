"""Find the benchmarks, choose among them, run them, and keep what was measured.

A module of this package that defines ``BENCHMARKS`` takes part: identifier -> function, or
identifier -> {part: function}. A function takes the device, and ``quick`` if it has a smoke
version, and gives rows. The part is the unit of resuming: its rows are stored once it is complete.
"""

import importlib
import inspect
import json
import os
import pkgutil
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .harness import Row

PACKAGE = __name__.rpartition('.')[0]


@dataclass(frozen=True)
class Part:
    """A piece of a benchmark that is measured at one go."""

    id: str  # benchmark, e.g. ``B7``
    name: str  # ``id/part``
    function: Callable[..., Iterable[Row]]  # gives the rows

    @property
    def has_quick(self) -> bool:
        """Whether there is a smoke version."""
        return 'quick' in inspect.signature(self.function).parameters

    def rows(self, device: str, quick: bool) -> Iterable[Row]:
        """Measure."""
        return self.function(device, quick=True) if quick else self.function(device)


def _order(identifier: str) -> tuple[bool, int, str]:
    """B2 before B10, and both before names without a number."""
    number = identifier[1:]
    return (not number.isdigit(), int(number) if number.isdigit() else 0, identifier)


def available() -> dict[str, list[Part]]:
    """Benchmark identifiers and their parts."""
    table: dict[str, list[Part]] = {}
    for module in pkgutil.iter_modules(importlib.import_module(PACKAGE).__path__):
        found = importlib.import_module(f'{PACKAGE}.{module.name}')
        for name, entry in getattr(found, 'BENCHMARKS', {}).items():
            parts = entry if isinstance(entry, dict) else {module.name: entry}
            table.setdefault(name, []).extend(
                Part(name, f'{name}/{part}', function) for part, function in parts.items()
            )
    return {name: table[name] for name in sorted(table, key=_order)}


def select(table: dict[str, list[Part]], names: Sequence[str]) -> list[Part]:
    """Parts of the named benchmarks, in the order of the table.

    Args:
        table: From ``available``.
        names: ``all``, identifiers, or ``identifier/part``.

    Raises:
        ValueError: A name is unknown; the message lists the known ones.
    """
    parts = [part for entries in table.values() for part in entries]
    known = {'all', *table, *(part.name for part in parts)}
    unknown = [name for name in names if name not in known]
    if unknown:
        listed = ', '.join(
            f'{name} ({", ".join(p.name for p in entries)})' if len(entries) > 1 else name
            for name, entries in table.items()
        )
        raise ValueError(f'unknown benchmark {", ".join(unknown)}; known: all, {listed}')
    return [p for p in parts if 'all' in names or p.id in names or p.name in names]


@dataclass
class Store:
    """Rows of finished parts, and the json file they are kept in.

    The file is a list of rows, each with its ``part`` and the ``settings`` it was measured under,
    and is replaced as a whole after every part.
    """

    settings: dict[str, Any]  # from ``machine.describe``
    path: Path | None = None  # the file, or None to keep nothing
    rows: list[dict[str, Any]] = field(default_factory=list)  # rows so far

    def load(self) -> None:
        """Take over the rows of an earlier run.

        Raises:
            ValueError: The file holds something else, or rows measured under other settings.
        """
        if self.path is None or not self.path.exists():
            return
        rows = read_rows(self.path)
        other = [row['settings'] for row in rows if row['settings'] != self.settings]
        if other:
            differing = [
                f'{key}={other[0].get(key)!r} there, {value!r} now'
                for key, value in self.settings.items()
                if other[0].get(key) != value
            ]
            raise ValueError(
                f'{self.path} was measured under other settings ({"; ".join(differing)}): choose '
                'another file, or measure everything again with --fresh'
            )
        self.rows = rows

    def finished(self, part: Part) -> bool:
        """Whether the rows of this part are there."""
        return any(row['part'] == part.name for row in self.rows)

    def add(self, part: Part, rows: Iterable[Row]) -> None:
        """Keep the rows of a part, and write the file."""
        self.rows += [
            {**row.as_dict(), 'part': part.name, 'settings': self.settings} for row in rows
        ]
        self.write()

    def write(self) -> None:
        """Replace the file.

        Raises:
            OSError: It cannot be written.
        """
        if self.path is None:
            return
        draft = self.path.with_name(f'{self.path.name}.{os.getpid()}.part')
        try:
            draft.write_text(json.dumps(self.rows, indent=1))
            draft.replace(self.path)
        finally:
            draft.unlink(missing_ok=True)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a file that ``Store`` wrote.

    Raises:
        ValueError: The file is something else.
    """
    try:
        rows = json.loads(path.read_text())
        wanted = {'id', 'case', 'time_ratio', 'equal', 'part', 'settings'}
        whole = isinstance(rows, list) and all(wanted <= set(row) for row in rows)
    except (ValueError, TypeError) as error:
        raise ValueError(f'{path} is not a file of benchmark rows ({error})') from error
    if not whole:
        raise ValueError(
            f'{path} is not a file of benchmark rows: choose another, or replace it with --fresh'
        )
    return rows


def line(row: dict[str, Any]) -> str:
    """A row in one line of text."""
    memory = row['memory_ratio']
    parts = [
        f'{row["id"]}  {row["case"]:<66}',
        f'time {row["time_ratio"]:6.2f}x',
        f'memory {memory:6.2f}x' if memory is not None else ' ' * 14,
    ]
    if row['claim'] == 'outputs':
        parts.append(f'max error {row["max_error"]:.1e}')
        parts.append('equal' if row['equal'] else 'DIFFERENT')
    else:
        kept = {'work': 'same work', 'limit': 'within the limit'}[row['claim']]
        parts.append(kept if row['equal'] else f'NOT {kept}')
    return '  '.join(parts)


def run(parts: Sequence[Part], store: Store, echo: Callable[[str], None]) -> list[str]:
    """Measure the parts that are not finished yet; a failing one does not stop the others.

    Args:
        parts: What to measure.
        store: Settings, and where the rows go.
        echo: Called with every line of progress.

    Returns:
        Names of the parts that raised an exception.
    """
    device, quick = store.settings['device'], store.settings['quick']
    failed = []
    for number, part in enumerate(parts, 1):
        head = f'[{number}/{len(parts)}] {part.name}'
        if store.finished(part):
            echo(f'{head}: kept from {store.path}')
        elif quick and not part.has_quick:
            echo(f'{head}: left out, it has no quick version')
            continue
        else:
            echo(f'{head} ...')
            begin = time.perf_counter()
            try:
                rows = list(part.rows(device, quick))
            except Exception:
                traceback.print_exc(file=sys.stderr)
                echo(f'{head}: FAILED, see above')
                failed.append(part.name)
                continue
            store.add(part, rows)
            echo(f'{head}: {time.perf_counter() - begin:.0f} s')
        for row in store.rows:
            if row['part'] == part.name:
                echo(line(row))
    return failed
