#!/usr/bin/env python
"""Make and check submissions to the COCO, LVIS, Cityscapes and YouTube-VIS servers.

  python tools/submit.py make --format coco --gt image_info_test-dev2017.json
      --results run.segm.json --out DIR
  python tools/submit.py make --format lvis --gt lvis_v1_val.json --results dump.pkl
      --out results.json
  python tools/submit.py make --format cityscapes --gt test.json
      --config CFG --checkpoint PTH --image-root DIR --out DIR
  python tools/submit.py check --format coco --gt image_info_test-dev2017.json FILE

--results is a result json (of MaskAPMetric, CocoMetric or any other tool) or a dump of `mim test
--out`. With --config the model runs over the images of --gt; an interrupted run goes on where it
stopped. What make writes has passed check.
"""

import argparse
import sys
from pathlib import Path

from mmrefine.results.log import EXPECTED_ERRORS
from mmrefine.submission.check import check_submission, find_submission
from mmrefine.submission.formats import FORMATS
from mmrefine.submission.make import MakeOptions, make_submission

SHOWN = 20  # problems printed


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest='command', required=True)
    make = commands.add_parser('make', help='write a submission')
    check = commands.add_parser('check', help='check one')
    check.add_argument('file', type=Path, help='json, zip, or the folder that make wrote')
    for command in (make, check):
        add = command.add_argument
        add('--format', required=True, choices=FORMATS)
        add(
            '--gt', required=True, type=Path, help='json with the images (or videos) and categories'
        )
        add('--max-per-image', type=int, help='default: COCO 100, LVIS 300')
    add = make.add_argument
    add('--results', type=Path, help='result json, or a dump of `mim test --out`')
    add('--config', help='instead of --results: config of the model to run')
    add('--checkpoint', help='its weights')
    add('--image-root', type=Path, help='folder of the images')
    add('--device', default='cpu')
    add(
        '--classes',
        nargs='+',
        metavar='NAME',
        help='of the model that made a dump, if not all categories of --gt',
    )
    add('--split', default='test-dev2017', help='COCO: part of the file name')
    add('--algorithm', default='mmrefine', help='COCO: part of the file name')
    add('--out', required=True, type=Path, help='folder; LVIS: the json; YouTube-VIS: the zip')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run a command; exit status 1 if a file is refused."""
    args = parse_args(argv)
    try:
        if args.command == 'check':
            file = find_submission(args.format, args.file)
            problems, notes = check_submission(args.format, file, args.gt, args.max_per_image)
            for note in notes:
                print(f'note: {note}', file=sys.stderr)
            for problem in problems[:SHOWN]:
                print(problem)
            if len(problems) > SHOWN:
                print(f'... and {len(problems) - SHOWN} more')
            print(f'{file}: {"refused" if problems else "fine"}')
            return 1 if problems else 0
        options = {k: v for k, v in vars(args).items() if k != 'command'}
        for path in make_submission(MakeOptions(**options)):
            print(path)
    except EXPECTED_ERRORS as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
