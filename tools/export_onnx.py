#!/usr/bin/env python
"""Write the mask head of a model as an ONNX graph and check it with onnxruntime.

  python tools/export_onnx.py CONFIG CHECKPOINT OUT.onnx
  python tools/export_onnx.py CONFIG CHECKPOINT OUT.onnx --with-backbone --image-size 800 1344

Feature maps and boxes go in, mask crops (RefineMask, SharpMask head, DeepMask, SharpMask) or
probability maps (SipMask, EmbedMask) come out; with --with-backbone images go in. The number of
objects and the size of the image stay open. See docs/export.md.
"""

import argparse
import sys
import warnings
from pathlib import Path

import mmrefine  # noqa: F401  (registers the components)
from mmrefine.apis.load_model import load_model
from mmrefine.export.onnx_file import TOLERANCE, UnusableGraph, check_onnx, export_onnx
from mmrefine.export.parts import Part

SHARE = 1e-3  # of values: a logit within rounding of 0 decides over a patch of boundary


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('config', help='config of the model')
    add('checkpoint', help='its weights')
    add('out', help='file to write')
    add('--image-size', type=int, nargs=2, default=(320, 320), metavar=('H', 'W'))
    add('--with-backbone', action='store_true', help='take normalised images, not feature maps')
    add('--no-check', action='store_true', help='write only; onnxruntime is not needed')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Write and check; exit status 1, and no file, if the graph is not the model."""
    args = parse_args(argv)
    warnings.filterwarnings('ignore')  # deprecations inside other packages
    size = tuple(args.image_size)
    try:
        model = load_model(args.config, args.checkpoint)
        part = export_onnx(model, args.out, size, args.with_backbone)
        names = part.input_names(part.example(1, size))
        print(f'{args.out}: {", ".join(names)} -> {", ".join(part.output_names)}')
        if args.no_check or agrees(part, args.out, size):
            return 0
        print(f'refused and removed: {args.out} is not the model')
    except UnusableGraph as error:
        print(f'error: {error}; {args.out} was removed', file=sys.stderr)
    except (ValueError, TypeError, OSError, ModuleNotFoundError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    Path(args.out).unlink()
    return 1


def agrees(part: Part, path: str, size: tuple[int, int]) -> bool:
    """Compare file and model, for the traced size and a wider one, and tell."""
    found = check_onnx(part, path, image_sizes=(size, (size[0], size[1] + 64)))
    for count, image, largest, share in found:
        print(f'{count} objects, {image[0]} x {image[1]}: largest difference {largest:.1e}', end='')
        print(f', above {TOLERANCE:g} in {share:.4%} of the values' if share else '')
    fine = max(each.share for each in found) <= SHARE
    if fine:
        print('fine')
    return fine


if __name__ == '__main__':
    sys.exit(main())
