#!/usr/bin/env python
"""Shrink a trained checkpoint: python tools/publish_weights.py epoch_12.pth model.safetensors

Optimizer and log are left out, the classes stay. Kernels and matrices are halved in precision,
vectors are not: biases and norms, whose statistics may not fit a half. The hash is printed.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

import torch
from mmengine.runner import CheckpointLoader

from mmrefine.checkpoint import read_checkpoint
from mmrefine.results.files import refuse_overwriting
from mmrefine.safetensors_file import write_safetensors


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('checkpoint', help='a checkpoint of a training')
    parser.add_argument('out', type=Path, help='the .safetensors file to write')
    parser.add_argument('--config', default='', help='name of its config, kept in the file')
    return parser.parse_args(argv)


def halved(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors of two dimensions or more as float16.

    Raises:
        ValueError: A value is too large for it.
    """
    result = {}
    for name, value in weights.items():
        half = value.half() if value.ndim > 1 and value.is_floating_point() else value
        if not torch.isfinite(half.float()).all():
            raise ValueError(f'{name} has values that are not finite or too large for float16')
        result[name] = half
    return result


def main(argv: list[str] | None = None) -> int:
    """Read, halve, write."""
    args = parse_args(argv)
    try:
        if args.out.suffix != '.safetensors':
            raise ValueError(f'{args.out} must end in .safetensors: readers go by the name')
        refuse_overwriting(args.out, checkpoint=args.checkpoint)
        weights = halved(read_checkpoint(args.checkpoint))
        metadata = dict(config=args.config) if args.config else {}
        content = CheckpointLoader.load_checkpoint(args.checkpoint, 'cpu', logger='silent')
        if 'dataset_meta' in content.get('meta', {}):
            metadata['dataset_meta'] = json.dumps(content['meta']['dataset_meta'])
        write_safetensors(args.out, weights, metadata)
    except (OSError, ValueError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    content = args.out.read_bytes()
    print(f'{args.out}: {len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
