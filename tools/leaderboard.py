#!/usr/bin/env python
"""Compare result files: python tools/leaderboard.py OURS.json THEIRS.json --gt GT.json

Mask AP and boundary AP of every file in one table, with 95 % intervals over images drawn again, and
the difference to the first file on the same images. Any detector's COCO results will do. Files of
one name, A=SEED0.json A=SEED1.json, are trainings of one model: their mean, and an interval over
images drawn again and over other trainings.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from mmrefine.evaluation.ap_table import NOTHING
from mmrefine.evaluation.bootstrap import (
    average_precisions,
    draw_images,
    interval,
    match_images,
    mean_of_trainings,
)
from mmrefine.evaluation.protocols import COCO_AREAS, make_rules, read_truth
from mmrefine.results.detections import load_results
from mmrefine.results.entries import UNKNOWN
from mmrefine.results.files import atomic_file, grouped_files, refuse_overwriting
from mmrefine.results.json_files import json_text, load_json

NUMBERS = {'segm': 'mask AP', 'boundary': 'boundary AP', 'bbox': 'box AP'}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('results', nargs='+', metavar='[NAME=]FILE', help='COCO result files; all meet the first')
    add('--gt', required=True, type=Path, help='annotation json')
    add('--iou-type', nargs='+', choices=NUMBERS, default=['segm', 'boundary'])
    add('--classes', nargs='+', metavar='NAME', help='categories that count; default: all')
    add(
        '--size',
        choices=COCO_AREAS,
        default='all',
        help='objects that count: below 32 x 32 pixels, up to 96 x 96, larger; default: all',
    )
    add('--max-dets', type=int, help='cap on detections an image and category, default 100')
    add(
        '--unknown',
        default='error',
        choices=UNKNOWN,
        help='results of unlisted images or categories',
    )
    add('--draws', type=int, default=1000, help='how often the images are drawn again')
    add('--seed', type=int, default=0, help='of the draws')
    add('--json', type=Path, help='write the numbers to this file')
    return parser.parse_args(argv)


def compare(args: argparse.Namespace) -> dict[str, dict]:
    """Score every name: name -> IoU type -> ``ap``, ``interval``, ``above``, ``above_interval``.

    Raises:
        ValueError: Files or values that cannot be used.
    """
    if args.draws < 1:
        raise ValueError(f'--draws must be at least 1, got {args.draws}')
    groups = grouped_files(args.results)
    everything = read_truth(load_json(args.gt), 'coco', str(args.gt))
    gt = everything.of_classes(args.classes or ())
    rules = make_rules('coco', args.max_dets, {'all': COCO_AREAS[args.size]})
    weights = draw_images(len(gt.sizes), args.draws, args.seed)
    # the first row are the images as they are
    weights = np.concatenate([np.ones_like(weights[:1]), weights])
    table: dict[str, dict] = {name: {} for name in groups}
    for place, (name, paths) in enumerate(groups.items()):
        found: dict[str, list] = {kind: [] for kind in args.iou_type}
        for path in paths:
            dt = load_results(path, everything, args.unknown)
            dt = dt.select(np.flatnonzero([c in gt.categories for c in dt.category_ids]))
            for kind, values in found.items():
                values.append(average_precisions(match_images(gt, dt, kind, rules), weights))
        for kind, values in found.items():
            table[name][kind] = mean_of_trainings(np.stack(values), [args.seed, place])
    first = next(iter(table.values()))
    return {
        name: {kind: summary(values, first[kind]) for kind, values in row.items()}
        for name, row in table.items()
    }


def summary(values: np.ndarray, first: np.ndarray) -> dict:
    """AP of all images, its interval, and the same of the difference to another file.

    Args:
        values: array[1 + S], AP of all images and of every draw.
        first: Likewise, of the file compared with.
    """
    drawn = values[1:] != NOTHING  # a draw may hold no object
    if values[0] < 0 or not drawn.any():
        raise ValueError(
            'there is no object to find: no annotation is of these --classes and --size'
        )
    gains = values - first
    return {
        'ap': float(values[0]),
        'interval': interval(values[1:][drawn]),
        'above': float(gains[0]),
        'above_interval': interval(gains[1:][drawn]),
    }


def markdown(table: dict[str, dict]) -> str:
    """One line a file, in per cent."""
    kinds = list(next(iter(table.values())))
    titles = [NUMBERS[kind] for kind in kinds]
    header = ['results', *titles, *(f'{title} above the first' for title in titles)]
    lines = ['| ' + ' | '.join(header) + ' |', '|---' * len(header) + '|']
    for place, (name, row) in enumerate(table.items()):
        cells = [cell(row[kind]['ap'], row[kind]['interval']) for kind in kinds]
        for kind in kinds:
            gain = cell(row[kind]['above'], row[kind]['above_interval'], '+')
            cells.append(gain if place else '')
        lines.append('| ' + ' | '.join([name, *cells]) + ' |')
    return '\n'.join(lines)


def cell(value: float, limits: tuple[float, float], sign: str = '') -> str:
    """``41.2 [39.8, 42.5]``."""
    shown, low, high = (f'{100 * number:{sign}.1f}' for number in (value, *limits))
    return f'{shown} [{low}, {high}]'


def main(argv: list[str] | None = None) -> int:
    """Print the table; exit status 1 with one sentence if something cannot be scored."""
    args = parse_args(argv)
    try:
        for path in sum(grouped_files(args.results).values(), []):
            refuse_overwriting(args.json, gt=args.gt, results=path)
        table = compare(args)
        print(markdown(table))
        if args.json:
            with atomic_file(args.json) as file:
                file.write(json_text(table) + '\n')
    except (ValueError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
