"""Weights in safetensors files: plain tensors by name, no code, readable by many programs.

Imported with the components; from then on ``load_from``, ``mim test`` and ``load_model`` take files
that end in ``.safetensors``.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.runner.checkpoint import CheckpointLoader
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mmrefine.results.files import atomic_file


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


# mmengine matches its "prefixes" as regular expressions.
CheckpointLoader.register_scheme(
    prefixes=r'.+\.safetensors$', loader=load_from_safetensors, force=True
)
