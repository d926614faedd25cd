#!/usr/bin/env python
"""Replay recorded files of the original implementations: python tools/parity.py DIR."""

import argparse
import sys
from pathlib import Path

import torch

import mmrefine  # noqa: F401  (registers the components)

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / 'tests'))

from replay import run_directory


def main() -> int:
    """Parse arguments, run, return the exit status (0 equal, 1 different, 2 not implemented)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('directory', help='folder with .npz, .json and .t7 recordings')
    parser.add_argument('--device', default='cpu', help='cpu (recorded tolerances) or cuda (10x)')
    parser.add_argument('--quiet', action='store_true', help='list only what fails')
    args = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    try:
        return run_directory(args.directory, args.device, verbose=not args.quiet)
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == '__main__':
    sys.exit(main())
