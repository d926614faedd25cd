#!/usr/bin/env python
"""Make a COCO-format set and a config from annotations of any known tool.

python tools/prepare_data.py SOURCE --out data/mine

SOURCE is a COCO json or its folder (Roboflow, CVAT, Label Studio, ...), a labelme folder, a VIA
json, a YOLO segmentation folder with data.yaml, a Pascal VOC folder, or images/ with masks/ of
PNGs.
"""

import argparse
import sys
from pathlib import Path

import mmrefine  # noqa: F401  (registers the components)
from mmrefine.apis.own_config import BASES, write_config
from mmrefine.apis.prepare_data import PreparedData, prepare_data
from mmrefine.datasets.sources import FORMATS


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', type=Path, nargs='+')
    parser.add_argument('--out', type=Path, required=True, help='folder for everything written')
    parser.add_argument('--format', choices=list(FORMATS), help='default: recognised')
    parser.add_argument('--val', type=float, default=0.2, help='share of validation pictures')
    parser.add_argument('--seed', type=int, default=0, help='of the split')
    parser.add_argument(
        '--group-by', metavar='SEPARATOR', help='keep pictures together that share the text before'
    )
    parser.add_argument('--copy', action='store_true', help='copy the pictures to OUT/images')
    parser.add_argument(
        '--base', default='refinemask', help=f'{", ".join(BASES)}, or any config to start from'
    )
    parser.add_argument('--batch', type=int, default=2, help='pictures of one iteration')
    args = parser.parse_args()
    if not 0 < args.val < 1:
        parser.error(f'--val must lie between 0 and 1, got {args.val}')
    if args.batch < 1:
        parser.error(f'--batch must be at least 1, got {args.batch}')
    return args


def main() -> None:
    """Convert, check, draw, write the config; exit with 1 if the annotations have errors."""
    args = arguments()
    config = args.out / f'{args.out.resolve().name}.py'
    try:
        data = prepare_data(
            args.source, args.out, args.format, args.val, args.seed, args.group_by, args.copy
        )
        notes = write_config(config, args.base, data, args.batch)
    except (OSError, ValueError) as error:
        sys.exit(f'prepare_data: {error}')
    print(f'{", ".join(map(str, args.source))}: {data.kind}')
    print(*(f'  {note}' for note in [*data.notes, *notes]), sep='\n')
    print_tables(data)
    problems = [(split, p) for split, found in data.problems.items() for p in found]
    for split, problem in problems:
        print(f'{split}: {problem}')
    print(f'\nlook at {args.out / "sheet.jpg"}, then:')
    folder = Path('work_dirs') / config.stem
    print(f'  mim train mmrefine {config} --work-dir {folder}')
    print(f'  mim test mmrefine {config} --checkpoint {folder}/best_*.pth')
    print(
        f'  mim run mmrefine predict PHOTOS --config {config} --checkpoint {folder}/best_*.pth '
        '--out predictions'
    )
    sys.exit(any(problem.fatal for _, problem in problems))


def print_tables(data: PreparedData) -> None:
    """Print pictures and objects of every split, and objects of every class."""
    for split, (pictures, objects) in data.counts.items():
        print(f'{split:>8}: {pictures} pictures, {objects} objects')
    for name, count in data.class_counts.items():
        print(f'{count:>8} {name}')


if __name__ == '__main__':
    main()
