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

from mmdet.apis import init_detector

import mmrefine  # noqa: F401  (registers the components)
from mmrefine.export.onnx_file import TOLERANCE, check_onnx, export_onnx

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
    """Write and check; exit status 1 if the graph is not the model, or cannot be made."""
    args = parse_args(argv)
    size = tuple(args.image_size)
    try:
        model = init_detector(args.config, args.checkpoint, device='cpu')
        part = export_onnx(model, args.out, size, args.with_backbone)
        names = part.input_names(part.example(1, size))
        print(f'{args.out}: {", ".join(names)} -> {", ".join(part.output_names)}')
        if args.no_check:
            return 0
        wide = (size[0], size[1] + 64)
        found = check_onnx(part, args.out, image_sizes=(size, wide))
    except (ValueError, TypeError, OSError, ModuleNotFoundError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    for count, image, largest, share in found:
        print(f'{count} objects, {image[0]} x {image[1]}: largest difference {largest:.1e}', end='')
        print(f', above {TOLERANCE:g} in {share:.4%} of the values' if share else '')
    bad = max(each.share for each in found) > SHARE
    print('refused: the graph is not the model' if bad else 'fine')
    return 1 if bad else 0


if __name__ == '__main__':
    sys.exit(main())
