#!/usr/bin/env python
"""Give the boxes of any detector the masks of a model of your choice.

  python tools/refine_results.py --config CFG --checkpoint CKPT --gt IMAGES.json --images DIR
      --results IN.json --out OUT.json

IN is a COCO or LVIS result list: image_id, category_id, bbox (x, y, w, h) and score, a segmentation
is replaced. OUT has the same entries in the same order with all their other fields. The model is
any two-stage config with a RoI mask head; categories are matched to its classes by their names in
IMAGES. An interrupted run goes on where it stopped.
"""

import argparse
import sys
from pathlib import Path

import torch

from mmrefine.apis.refine_results import BAD_BOXES, RefineOptions, refine_results
from mmrefine.results.log import EXPECTED_ERRORS


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--config', required=True, help='config of a two-stage model with masks')
    add('--checkpoint', required=True, help='its weights')
    add('--gt', required=True, type=Path, help='json with the images and categories')
    add('--images', required=True, type=Path, help='folder of the images')
    add('--results', required=True, type=Path, help='result json of a detector')
    add('--out', required=True, type=Path, help='result json to write')
    add('--device', help='default: cuda:0 if there is one, else cpu')
    add('--chunk', type=int, help='boxes at once; bounds the memory')
    add(
        '--bad-boxes',
        default='error',
        choices=BAD_BOXES,
        help='boxes that are not finite or inverted: stop, or give them an empty mask',
    )
    add('--tile', type=int, nargs='+', metavar='N', help='cut larger images: height and width')
    add('--overlap', type=int, help='pixels that tiles share, a quarter of a tile by default')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Refine; exit status 1 with one sentence if something does not fit."""
    args = parse_args(argv)
    args.device = args.device or ('cuda:0' if torch.cuda.is_available() else 'cpu')
    try:
        print('\n'.join(refine_results(RefineOptions(**vars(args)))))
    except (*EXPECTED_ERRORS, TypeError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
