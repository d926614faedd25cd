"""Weights in safetensors files: plain tensors by name, no code, readable by many programs.

Format:   github.com/huggingface/safetensors: eight bytes with the length of a JSON header (little
          endian), the header (name -> dtype, shape, data_offsets; ``__metadata__``), the values.

Imported with the components; from then on ``load_from``, ``mim test`` and ``load_model`` take files
that end in ``.safetensors``.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor

from mmrefine.results.files import atomic_file

DTYPES = {
    'F64': torch.float64,
    'F32': torch.float32,
    'F16': torch.float16,
    'BF16': torch.bfloat16,
    'I64': torch.int64,
    'I32': torch.int32,
    'U8': torch.uint8,
    'BOOL': torch.bool,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
METADATA = '__metadata__'


def read_safetensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors and the metadata of a file.

    Raises:
        OSError: There is no such file.
        ValueError: It is cut off or no safetensors file.
    """
    content = Path(path).read_bytes()
    start = 8 + int.from_bytes(content[:8], 'little')
    try:
        header = json.loads(content[8:start])
        metadata = header.pop(METADATA, {})
        values = memoryview(content)[start:]
        return {name: _tensor(entry, values) for name, entry in header.items()}, metadata
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f'{path} is truncated or no safetensors file ({error}): copy or download it again'
        ) from error


def _tensor(entry: Mapping[str, Any], values: memoryview) -> Tensor:
    dtype, shape = DTYPES[entry['dtype']], entry['shape']
    begin, end = entry['data_offsets']
    count = math.prod(shape)
    if not 0 <= begin <= end <= len(values) or end - begin != count * dtype.itemsize:
        raise ValueError(f'values {begin} to {end} of {len(values)} bytes, shape {shape}')
    if count == 0:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(bytearray(values[begin:end]), dtype=dtype).reshape(shape)


def write_safetensors(
    path: str | Path, weights: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors and metadata, whole or not at all.

    Raises:
        ValueError: A tensor of a type that the format or this module does not know.
    """
    header: dict[str, Any] = {METADATA: dict(metadata)} if metadata else {}
    parts, place = [], 0
    for name, value in sorted(weights.items()):
        if value.dtype not in NAMES:
            raise ValueError(f'{name} is of type {value.dtype}, which is not written')
        flat = value.detach().cpu().contiguous().reshape(-1)
        part = flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b''
        entry = dict(dtype=NAMES[value.dtype], shape=list(value.shape))
        header[name] = dict(entry, data_offsets=[place, place + len(part)])
        parts.append(part)
        place += len(part)
    text = json.dumps(header, separators=(',', ':')).encode()
    text += b' ' * (-len(text) % 8)  # values begin at a multiple of eight
    with atomic_file(path, 'wb') as file:
        file.write(len(text).to_bytes(8, 'little') + text + b''.join(parts))


def load_from_safetensors(filename: str, map_location: Any = None) -> dict[str, Any]:
    """Loader for mmengine's ``CheckpointLoader``; halves stay halves until a model takes them."""
    weights, metadata = read_safetensors(Path(filename).expanduser())
    if map_location is not None:
        weights = {name: value.to(map_location) for name, value in weights.items()}
    return dict(state_dict=weights, meta=metadata)


# mmengine matches its "prefixes" as regular expressions.
CheckpointLoader.register_scheme(
    prefixes=r'.+\.safetensors$', loader=load_from_safetensors, force=True
)
