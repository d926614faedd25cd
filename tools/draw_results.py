"""Draw ground truth beside prediction from the results of ``tools/test.py --out FILE.pkl``."""

import argparse
import sys
from pathlib import Path

import mmrefine  # noqa: F401  (registers the components)
from mmrefine.apis.dump_pictures import SHEET, draw_dump


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='the config that was tested')
    parser.add_argument('results', help='the pickle that the test wrote')
    parser.add_argument('out', type=Path, help='folder for the pictures')
    parser.add_argument('--num', type=int, default=12, help='pictures to draw')
    parser.add_argument('--score', type=float, default=0.5, help='lowest score drawn')
    parser.add_argument(
        '--scale',
        type=int,
        help='enlargement; default: 2 for small pictures, large ones are shrunk',
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Draw; exit status 1 with one sentence if something cannot be drawn."""
    args = parse_args(argv)
    try:
        if args.num < 1 or (args.scale is not None and args.scale < 1):
            raise ValueError('--num and --scale take 1 or more')
        count = draw_dump(args.config, args.results, args.out, args.num, args.score, args.scale)
    except (OSError, ValueError) as error:
        print(f'draw_results: {error}', file=sys.stderr)
        return 1
    print(f'{count} pictures and {SHEET}.jpg in {args.out}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
