#!/usr/bin/env python
"""Report on result files: python tools/report.py --gt GT.json --results A.json --out REPORT.html.

The page holds an AP table, and for the images whose boundaries cost most the ground truth, the
predictions of every file side by side, and the pixels they miss or add. It is one static file.
"""

import argparse
import sys
from pathlib import Path

from mmrefine.evaluation.evaluate import BACKENDS
from mmrefine.results.entries import UNKNOWN
from mmrefine.results.files import named_files, refuse_overwriting
from mmrefine.visualization.report import FORMATS, write_report


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--gt', required=True, help='annotation json')
    add(
        '--results',
        required=True,
        nargs='+',
        metavar='[NAME=]FILE',
        help='COCO result files with masks; the first is the one compared with',
    )
    add('--out', required=True, type=Path, help='the HTML file to write')
    add('--images', help='folder of the pictures; default: draw on grey')
    add('--format', default='coco', choices=FORMATS)
    add('--worst', type=int, default=12, help='images to show')
    add('--score-thr', type=float, default=0.3, help='lowest score drawn')
    add('--max-dets', type=int, help='cap on detections; COCO 100, LVIS 300 an image')
    add('--backend', default='pycocotools', choices=tuple(BACKENDS))
    add(
        '--unknown',
        default='error',
        choices=UNKNOWN,
        help='results of unlisted images or categories',
    )
    add('--title', default='Masks and their boundaries')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Write the page; exit status 1 with one sentence if that is not possible."""
    args = parse_args(argv)
    try:
        for path in named_files(args.results).values():
            refuse_overwriting(args.out, gt=args.gt, results=path)
        if not Path(args.gt).is_file():
            raise ValueError(f'{args.gt} does not exist')
        path = write_report(
            args.gt,
            named_files(args.results),
            args.out,
            args.images,
            args.format,
            args.worst,
            args.score_thr,
            args.max_dets,
            args.backend,
            args.title,
            unknown=args.unknown,
        )
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    print(path)
    return 0


if __name__ == '__main__':
    sys.exit(main())
