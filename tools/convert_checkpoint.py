#!/usr/bin/env python
"""Convert a checkpoint of an original implementation: python tools/convert_checkpoint.py IN OUT
--config CFG."""

import argparse
import sys

from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope

import mmrefine  # noqa: F401  (registers the components)
from mmrefine.checkpoint import CheckpointError, convert, read_checkpoint, write_checkpoint


def main() -> int:
    """Read, recognise, convert, check against the config's model, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('input', help='checkpoint of the original code')
    parser.add_argument('output', help='checkpoint for this package')
    parser.add_argument('--config', help='prove that the result loads strictly into this model')
    parser.add_argument('--kind', help='name of the generation, if the keys do not tell')
    parser.add_argument(
        '--skip-classifier',
        action='store_true',
        help='leave out layers whose size depends on the number of classes, where it differs',
    )
    args = parser.parse_args()
    if args.skip_classifier and not args.config:
        parser.error('--skip-classifier compares with a model: give --config')
    model = None
    if args.config:
        config = Config.fromfile(args.config)
        init_default_scope('mmdet')
        config.model.pop('init_cfg', None)
        model = MODELS.build(config.model)
    try:
        weights, kind = convert(read_checkpoint(args.input), model, args.kind, args.skip_classifier)
        write_checkpoint(args.output, weights, converted_from=kind)
    except (CheckpointError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    checked = f', loads strictly into {args.config}' if args.config else ''
    print(f'{kind}: {len(weights)} entries written to {args.output}{checked}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
