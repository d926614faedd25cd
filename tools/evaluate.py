#!/usr/bin/env python
"""Score a result file: python tools/evaluate.py --gt GT.json --results RESULTS.json --json OUT.

Boxes, masks and mask boundaries by COCO's rules (--format coco), LVIS's federated rules (lvis,
lvis-fixed), AP* (coco-on-lvis: COCO results, LVIS annotations), the official Cityscapes code
(cityscapes; --gt and --results may be folders) and YouTube-VIS (youtube-vis). OUT holds every
number by name, between 0 and 1; -1 stands for no ground truth of that kind.
"""

import argparse
import sys
from pathlib import Path

from mmrefine.evaluation.evaluate import BACKENDS
from mmrefine.evaluation.protocols import IOU_TYPES
from mmrefine.evaluation.score_file import FORMATS, score_file
from mmrefine.results.files import atomic_file, refuse_overwriting
from mmrefine.results.json_files import json_text


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--gt', required=True, type=Path, help='annotation json (Cityscapes: or the gtFine folder)')
    add(
        '--results',
        required=True,
        type=Path,
        help='result json (Cityscapes: or the txt + png folder)',
    )
    add('--format', default='coco', choices=FORMATS)
    add('--iou-type', nargs='+', choices=IOU_TYPES, help='default: all that the results allow')
    add(
        '--max-dets',
        type=int,
        help='cap on detections; COCO 100 per image and category, LVIS 300 an image',
    )
    add(
        '--areas',
        nargs='+',
        metavar='NAME:LEAST:MOST',
        help='square pixels, e.g. s:0:1024 l:1024:1e10',
    )
    add('--dilation-ratio', type=float, default=0.02, help='boundary band over image diagonal')
    add('--backend', default='pycocotools', choices=tuple(BACKENDS))
    add(
        '--box-areas',
        action='store_true',
        help='small / medium / large masks by their box, not their pixels',
    )
    add('--unknown', choices=('error', 'drop'), help='results of unlisted images or categories')
    add('--classwise', action='store_true', help='also the AP of every category')
    add('--json', type=Path, help='write the numbers to this file')
    return parser.parse_args(argv)


def read_areas(texts: list[str]) -> dict[str, tuple[float, float]]:
    """Name -> least and most of ``NAME:LEAST:MOST``; ValueError for another form or a name that
    occurs twice."""
    areas: dict[str, tuple[float, float]] = {}
    for text in texts:
        try:
            name, least, most = text.split(':')
            limits = float(least), float(most)
        except ValueError:
            raise ValueError(
                f'--areas takes NAME:LEAST:MOST with numbers of square pixels, got {text}'
            ) from None
        if name in areas:
            raise ValueError(f'--areas has two ranges called {name!r}: name them differently')
        areas[name] = limits
    return areas


def main(argv: list[str] | None = None) -> int:
    """Score, print, write; exit status 1 with one sentence if something cannot be scored."""
    args = parse_args(argv)
    try:
        refuse_overwriting(args.json, gt=args.gt, results=args.results)
        areas = read_areas(args.areas) if args.areas else None
        numbers, table = score_file(
            args.gt,
            args.results,
            args.format,
            args.iou_type,
            args.max_dets,
            areas,
            args.dilation_ratio,
            args.backend,
            args.box_areas,
            args.unknown,
            args.classwise,
        )
        print(table)
        if args.json:
            with atomic_file(args.json) as file:
                file.write(json_text(numbers) + '\n')
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
