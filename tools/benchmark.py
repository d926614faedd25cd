#!/usr/bin/env python
"""Measure the package against the original formulations and stock detectors of MMDetection.

python tools/benchmark.py all --json OUT.json --markdown docs/benchmarks.md

What is finished is kept in OUT.json: the same command again continues, or only writes the tables.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import cv2
import torch
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

import mmrefine  # noqa: F401  (registers the components)

# SharpMask's peer is the replayed model of the recordings.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / 'tests'))

from benchmark.growth import draw
from benchmark.machine import describe
from benchmark.report import check_document, write_markdown
from benchmark.runner import Part, Store, available, run, select


def arguments(table: dict[str, list[Part]], argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse and check the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('ids', nargs='+', help=f'all, or any of {", ".join(table)}')
    parser.add_argument('--only', nargs='+', help='narrow down to these identifiers or parts')
    parser.add_argument('--device', default='cpu', choices=('cpu', 'cuda'))
    parser.add_argument('--threads', type=int, default=1, help='threads of the processor (pinned)')
    parser.add_argument('--quick', action='store_true', help='tiny sizes: does everything run?')
    parser.add_argument('--json', type=Path, help='keep the rows here, and continue from them')
    parser.add_argument('--fresh', action='store_true', help='begin the --json file anew')
    parser.add_argument('--markdown', type=Path, help='write the tables into this document')
    args = parser.parse_args(argv)
    try:
        chosen = select(table, args.ids)
        narrowed = select(table, args.only) if args.only else chosen
    except ValueError as error:
        parser.error(str(error))
    args.parts = [part for part in chosen if part in narrowed]
    if not args.parts:
        parser.error(f'--only {" ".join(args.only)} leaves nothing of {" ".join(args.ids)}')
    if args.device == 'cuda' and not torch.cuda.is_available():
        parser.error('--device cuda, but torch sees no CUDA device: use --device cpu')
    if args.threads < 1:
        parser.error(f'--threads must be at least 1, got {args.threads}')
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the chosen benchmarks; exit status 1 if one fails or a claim does not hold, 2 for a wrong
    command."""
    args = arguments(available(), argv)
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    init_default_scope('mmdet')
    MMLogger.get_current_instance().setLevel('WARNING')  # it lists every initialised layer
    store = Store(describe(args.device, args.threads, args.quick), args.json)
    try:
        if not args.fresh:
            store.load()
        store.write()  # before hours of measuring: can it be written at all?
    except (OSError, ValueError) as error:
        print(f'cannot use --json: {error}', file=sys.stderr)
        return 2
    if args.markdown:
        ids = {part.id for part in args.parts} | {row['id'] for row in store.rows}
        try:
            check_document(args.markdown, args.device, ids)
        except (OSError, ValueError) as error:
            print(f'cannot use --markdown: {error}', file=sys.stderr)
            return 2
    failed = run(args.parts, store, partial(print, flush=True))
    names = {part.name for part in args.parts}
    wrong = [row for row in store.rows if row['part'] in names and not row['equal']]
    for row in wrong:
        print(f'claim does not hold: {row["id"]}  {row["case"]}')
    if failed:
        print(f'failed: {", ".join(failed)}')
    if args.markdown:
        try:
            write_markdown(args.markdown, store.rows)
            if grown := [row for row in store.rows if row['id'] == 'growth']:
                draw(grown, args.markdown.parent / 'images' / 'growth.png')
        except (OSError, ValueError) as error:
            print(f'cannot use --markdown: {error}', file=sys.stderr)
            return 2
    return 1 if failed or wrong else 0


if __name__ == '__main__':
    sys.exit(main())
