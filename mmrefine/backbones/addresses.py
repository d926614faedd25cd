"""``mmrefine://NAME``: the address of a backbone that ``tools/get_backbone.py`` has fetched."""

from typing import Any

import torch
from mmengine.runner.checkpoint import CheckpointLoader

from mmrefine.loading_errors import explained

from .packaged import BACKBONES, StateDict, weights_path

SCHEME = 'mmrefine://'


def load_from_mmrefine(filename: str, map_location: Any = None) -> StateDict:
    """Loader for mmengine's ``CheckpointLoader``.

    Raises:
        FileNotFoundError: The weights have not been fetched; the message names the command.
        ValueError: There is no such backbone.
    """
    name = filename.removeprefix(SCHEME)
    if name not in BACKBONES:
        known = ', '.join(f'{SCHEME}{each}' for each in BACKBONES)
        raise ValueError(f'{filename} is unknown; there are {known}')
    path = weights_path(name)
    if not path.is_file():
        raise FileNotFoundError(
            f'{filename} is not at {path}: fetch the weights once with `python '
            f'tools/get_backbone.py {name}`, or train from scratch: '
            '--cfg-options model.backbone.init_cfg=None'
        )
    return torch.load(path, map_location=map_location, weights_only=True)


CheckpointLoader.register_scheme(prefixes=SCHEME, loader=explained(load_from_mmrefine), force=True)
