"""Write a data set of generated shapes in COCO, LVIS, Cityscapes or YouTube-VIS format."""

import argparse
import sys
from pathlib import Path

from shapes import WRITERS, SceneSpec, make_shapes


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('out', type=Path, help='new or empty folder')
    parser.add_argument('--format', choices=list(WRITERS), default='coco')
    parser.add_argument('--num', type=int, default=400, help='training pictures, or clips')
    parser.add_argument('--val', type=int, help='validation pictures, or clips (a quarter of NUM)')
    parser.add_argument(
        '--size', type=int, nargs='+', default=[192], help='pixels: one side, or height and width'
    )
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    if len(args.size) > 2:
        parser.error('--size takes one or two numbers')
    return args


def main() -> None:
    """Make the set, or say why not."""
    args = parse_args()
    val = max(1, args.num // 4) if args.val is None else args.val
    try:
        spec = SceneSpec(height=args.size[0], width=args.size[-1])
        made = make_shapes(args.out, args.format, args.num, val, spec, args.seed)
    except (ValueError, OSError) as error:
        sys.exit(f'make_shapes: {error}')
    print(f'{args.out}: {"written" if made else "already there, nothing to do"}')


if __name__ == '__main__':
    main()
