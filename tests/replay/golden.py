"""Recorded arrays of an original implementation, and how to read them."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass
class Golden(Mapping[str, Any]):
    """A recorded file as a mapping from array names to NumPy arrays.

    Boolean arrays stored as ``X@packed`` and ``X@shape`` appear as ``X``. Text arrays named
    ``meta/...`` appear as the parsed JSON. Recordings that are no ``.npz`` (``.json``, ``.t7``)
    have no arrays, only a path; a ``.json`` file holding a mapping appears as that mapping.

    Attributes:
        path: The file.
        arrays: Its content.
    """

    path: Path
    arrays: dict[str, Any] = field(repr=False)

    @property
    def system(self) -> str:
        """Prefix of the file name, e.g. ``refinemask``."""
        return self.path.name.split('_')[0].split('.')[0]

    @property
    def settings(self) -> dict:
        """Constructor arguments and conditions of the recording."""
        return self.arrays['meta/settings']

    def __getitem__(self, key: str) -> Any:
        return self.arrays[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)

    def tensor(self, key: str, device: str | torch.device = 'cpu') -> Tensor:
        """The array ``key`` as a tensor on ``device``."""
        return torch.from_numpy(np.ascontiguousarray(self.arrays[key])).to(device)

    def json(self, key: str) -> Any:
        """The JSON text stored under ``key``, parsed."""
        value = self.arrays[key]
        return json.loads(str(value)) if isinstance(value, np.ndarray) else value

    def keys_under(self, prefix: str) -> list[str]:
        """Names below ``prefix/``, with the prefix removed."""
        prefix = prefix.rstrip('/') + '/'
        return [key[len(prefix) :] for key in self.arrays if key.startswith(prefix)]

    def state_dict(self, prefix: str = 'w') -> dict[str, Tensor]:
        """The weights recorded below ``prefix/``."""
        return {key: self.tensor(f'{prefix}/{key}') for key in self.keys_under(prefix)}


def _unpack(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for key, value in arrays.items():
        if key.endswith('@packed'):
            name = key[: -len('@packed')]
            shape = tuple(int(n) for n in arrays[f'{name}@shape'])
            bits = np.unpackbits(value, count=int(np.prod(shape, dtype=np.int64)))
            content[name] = bits.reshape(shape).astype(bool)
        elif key.startswith('meta/') and value.dtype.kind == 'U' and value.ndim == 0:
            content[key] = json.loads(str(value))
        elif not key.endswith('@shape'):
            content[key] = value
    return content


def load_golden(path: str | Path) -> Golden:
    """Read one recorded file.

    Raises:
        ValueError: The file is damaged or of an unknown type.
    """
    path = Path(path)
    try:
        if path.suffix == '.npz':
            with np.load(path, allow_pickle=False) as archive:
                return Golden(path, _unpack(dict(archive)))
        if path.suffix == '.json':
            content = json.loads(path.read_text())
            return Golden(path, content if isinstance(content, dict) else {'content': content})
        if path.suffix == '.t7':
            return Golden(path, {})
    except Exception as error:  # any damage to a foreign file must end as one readable line
        raise ValueError(f'cannot read {path}: {type(error).__name__}: {error}') from error
    raise ValueError(f'{path}: unknown type {path.suffix!r}; expected .npz, .json or .t7')
