#!/usr/bin/env python
"""Convert a checkpoint of an original implementation: python tools/convert_checkpoint.py IN OUT
--config CFG."""

import argparse
import sys

from mmdet.registry import MODELS
from mmengine.registry import init_default_scope
from torch import nn

import mmrefine  # noqa: F401  (registers the components)
from mmrefine.apis.load_model import read_config
from mmrefine.checkpoint import convert, read_checkpoint, write_checkpoint
from mmrefine.results.files import refuse_overwriting


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
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
    args = parser.parse_args(argv)
    if args.skip_classifier and not args.config:
        parser.error('--skip-classifier compares with a model: give --config')
    return args


def build_model(path: str) -> nn.Module:
    """The model of a config, with random weights.

    Raises:
        OSError: There is no such file.
        ValueError: It is no config, or describes no model.
    """
    config = read_config(path, 'model')
    init_default_scope('mmdet')
    config.model.pop('init_cfg', None)
    return MODELS.build(config.model)


def main(argv: list[str] | None = None) -> int:
    """Read, recognise, convert, check against the config's model, write."""
    args = parse_args(argv)
    try:
        refuse_overwriting(args.output, input=args.input, config=args.config)
        model = build_model(args.config) if args.config else None
        weights, kind = convert(read_checkpoint(args.input), model, args.kind, args.skip_classifier)
        write_checkpoint(args.output, weights, converted_from=kind)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    checked = f', loads strictly into {args.config}' if args.config else ''
    print(f'{kind}: {len(weights)} entries written to {args.output}{checked}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
