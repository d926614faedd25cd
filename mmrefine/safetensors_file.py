"""Weights in safetensors files: plain tensors by name, no code, readable by many programs.

Imported with the components; from then on ``load_from``, ``mim test`` and ``load_model`` take files
and addresses that end in ``.safetensors``.
"""

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlparse

import torch
from mmengine.dist import barrier, is_main_process
from mmengine.runner.checkpoint import CheckpointLoader
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mmrefine.results.files import atomic_file

from .loading_errors import explained


def read_safetensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors and the metadata of a file.

    Raises:
        OSError: There is no such file.
        ValueError: It is cut off or no safetensors file.
    """
    try:
        with safe_open(path, 'pt') as file:
            weights = {name: file.get_tensor(name) for name in sorted(file.keys())}
            return weights, file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(
            f'{path} is truncated or no safetensors file ({error}): copy or download it again'
        ) from error


def write_safetensors(
    path: str | Path, weights: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors and metadata, whole or not at all."""
    plain = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    with atomic_file(path, 'wb') as file:
        file.write(save(plain, dict(metadata or {})))


def load_from_safetensors(filename: str, map_location: Any = None) -> dict[str, Any]:
    """Loader for mmengine's ``CheckpointLoader``; halves stay halves until a model takes them."""
    weights, metadata = read_safetensors(Path(filename).expanduser())
    if map_location is not None:
        weights = {name: value.to(map_location) for name, value in weights.items()}
    meta: dict[str, Any] = dict(metadata)
    if 'dataset_meta' in meta:  # classes and their colours, as in mmengine's checkpoints
        meta['dataset_meta'] = json.loads(meta['dataset_meta'])
    return dict(state_dict=weights, meta=meta)


@explained
def load_from_address(filename: str, map_location: Any = None) -> dict[str, Any]:
    """The same for an address; the file is downloaded once, to the folder of torch's hub."""
    file = Path(torch.hub.get_dir(), 'checkpoints', PurePosixPath(urlparse(filename).path).name)
    if is_main_process() and not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(filename, str(file))
    barrier()
    return load_from_safetensors(str(file), map_location)


# mmengine matches its "prefixes" as regular expressions; the later ones in the alphabet first.
register = CheckpointLoader.register_scheme
register(prefixes=r'.+\.safetensors$', loader=load_from_safetensors, force=True)
register(prefixes=r'https?://.+\.safetensors$', loader=load_from_address, force=True)
