#!/usr/bin/env python
"""Write the mask head of a model as an ONNX graph and check it with onnxruntime.

  python tools/export_onnx.py CONFIG CHECKPOINT OUT.onnx
  python tools/export_onnx.py CONFIG CHECKPOINT OUT.onnx --with-backbone --image-size 800 1344
  python tools/export_onnx.py CONFIG CHECKPOINT OUT.onnx --detector

Feature maps and boxes go in, mask crops (RefineMask, SharpMask head, DeepMask, SharpMask) or
probability maps (SipMask, EmbedMask) come out; with --with-backbone images go in. With --detector
it is the whole detector, which mmrefine/export/runtime.py runs. The number of objects and the size
of the image stay open. See docs/export.md.
"""

import argparse
import sys
import warnings
from pathlib import Path

import numpy as np
from torch import nn

import mmrefine  # noqa: F401  (registers the components)
from mmrefine.apis.load_model import load_model
from mmrefine.export.detector_file import compare_detector, export_detector
from mmrefine.export.onnx_file import TOLERANCE, UnusableGraph, check_onnx, export_onnx
from mmrefine.export.parts import Part
from mmrefine.results.files import refuse_overwriting
from mmrefine.results.log import EXPECTED_ERRORS

SHARE = 1e-3  # of values: a logit within rounding of 0 decides over a patch of boundary
BOXES, SCORES = 1e-3, 1e-5  # pixels of the image, probability


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
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        '--with-backbone', action='store_true', help='take normalised images, not feature maps'
    )
    kind.add_argument('--detector', action='store_true', help='the whole detector')
    add('--no-check', action='store_true', help='write only; onnxruntime is not needed')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Write and check; exit status 1, and no file, if the graph is not the model."""
    args = parse_args(argv)
    warnings.filterwarnings('ignore')  # deprecations inside other packages
    size = tuple(args.image_size)
    try:
        refuse_overwriting(args.out, config=args.config, checkpoint=args.checkpoint)
        model = load_model(args.config, args.checkpoint)
        if args.detector:
            graph = export_detector(model, args.out, size)
            print(f'{args.out}: {", ".join(graph.input_names)} -> {", ".join(graph.output_names)}')
            if args.no_check or agrees_whole(model, args.out, size):
                return 0
            raise UnusableGraph(f'{args.out} is not the model')
        part = export_onnx(model, args.out, size, args.with_backbone)
        names = part.input_names(part.example(1, size))
        print(f'{args.out}: {", ".join(names)} -> {", ".join(part.output_names)}')
        if args.no_check or agrees(part, args.out, size):
            return 0
        print(f'refused and removed: {args.out} is not the model')
    except UnusableGraph as error:
        print(f'error: {error}; {args.out} was removed', file=sys.stderr)
    except (*EXPECTED_ERRORS, TypeError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    Path(args.out).unlink()
    return 1


def agrees_whole(model: nn.Module, path: str, size: tuple[int, int]) -> bool:
    """Compare file and model on two pictures of noise, and tell."""
    rng = np.random.default_rng(0)
    shapes = [(side * 3 // 4, side, 3) for side in size]
    images = [rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]
    found = compare_detector(model, path, images)
    for image, each in zip(images, found):
        print(
            f'{each.objects} objects, {image.shape[0]} x {image.shape[1]}: boxes '
            f'{each.boxes:.1e} px, scores {each.scores:.1e}, {each.pixels} pixels apart'
        )
    if not any(each.objects for each in found):
        print('not compared: the model finds nothing in noise')
        return True
    fine = all(each.boxes < BOXES and each.scores < SCORES for each in found)
    share = sum(each.pixels for each in found) / max(
        sum(each.objects * image.shape[0] * image.shape[1] for image, each in zip(images, found)), 1
    )
    if fine and share <= SHARE:
        print('fine')
        return True
    return False


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
