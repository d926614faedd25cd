#!/usr/bin/env python
"""Measure the package against the original formulations: python tools/benchmark.py B1 B5 --json
OUT."""

import argparse
import importlib
import json
import pkgutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

import mmrefine  # noqa: F401  (registers the components)
from mmrefine import benchmarks
from mmrefine.benchmarks import Row


def available() -> dict[str, list[Callable[[str], Iterable[Row]]]]:
    """Benchmark identifiers and the functions that measure them."""
    table: dict[str, list[Callable[[str], Iterable[Row]]]] = {}
    for module in pkgutil.iter_modules(benchmarks.__path__):
        found = importlib.import_module(f'{benchmarks.__name__}.{module.name}')
        for name, function in getattr(found, 'BENCHMARKS', {}).items():
            table.setdefault(name, []).append(function)
    return dict(sorted(table.items()))


def main() -> int:
    """Run the chosen benchmarks; exit status 1 if any claimed equality does not hold."""
    table = available()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('ids', nargs='+', help=f'all, or any of {", ".join(table)}')
    parser.add_argument('--device', default='cpu', choices=('cpu', 'cuda'))
    parser.add_argument('--threads', type=int, default=1, help='torch threads (pinned)')
    parser.add_argument('--json', type=Path, help='write the rows to this file')
    args = parser.parse_args()
    unknown = [i for i in args.ids if i not in table and i != 'all']
    if unknown:
        parser.error(f'unknown benchmark {", ".join(unknown)}; available: {", ".join(table)}')
    if args.device == 'cuda' and not torch.cuda.is_available():
        parser.error('--device cuda, but torch sees no CUDA device')
    torch.set_num_threads(args.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    rows: list[Row] = []
    for name in table if 'all' in args.ids else args.ids:
        for function in table[name]:
            for row in function(args.device):
                rows.append(row)
                memory = '' if row.memory_ratio is None else f'  memory {row.memory_ratio:6.2f}x'
                print(
                    f'{row.id}  {row.case:<58} time {row.time_ratio:6.2f}x{memory}'
                    f'  max error {row.max_error:.1e}  {"equal" if row.equal else "DIFFERENT"}',
                    flush=True,
                )
                if args.json:  # after every row: an interrupted run keeps what it measured
                    args.json.write_text(json.dumps([r.as_dict() for r in rows], indent=1))
    return 0 if all(row.equal for row in rows) else 1


if __name__ == '__main__':
    sys.exit(main())
