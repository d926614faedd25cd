"""Read the pickles of `mim test --out` without executing code that a pickle may hold."""

import collections
import io
import pickle
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import torch
from torch import _utils as torch_utils

from mmrefine.plain_arrays import stand_ins

from .predictions import first_of_each


def _load_storage(data: bytes) -> Any:
    """Stand in for torch's own function, which unpickles without guard."""
    return torch.load(io.BytesIO(data), weights_only=True)


def _latin1(text: str, encoding: str) -> bytes:
    if encoding != 'latin1':
        raise pickle.UnpicklingError(f'it holds bytes as {encoding!r}, which no pickle does')
    return text.encode('latin1')


class DataUnpickler(pickle.Unpickler):
    """Builds tensors, arrays and plain containers; refuses everything else."""

    allowed: dict[tuple[str, str], Any] = {
        ('collections', 'OrderedDict'): collections.OrderedDict,
        ('torch._utils', '_rebuild_tensor_v2'): torch_utils._rebuild_tensor_v2,
        ('torch.storage', '_load_from_bytes'): _load_storage,
        # MMEngine writes protocol 2, where bytes are text to be encoded
        ('_codecs', 'encode'): _latin1,
        **stand_ins(),
    }

    def find_class(self, module: str, name: str) -> Callable:
        """Look up one of the allowed builders; UnpicklingError for anything else."""
        try:
            return self.allowed[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f'it asks for {module}.{name}, which is no detection data and could run code: '
                'refused'
            ) from None


def read_dump(path: str | Path) -> list[dict]:
    """Read a dump of ``DumpDetResults``: one dict an image, with ``img_id``, ``ori_shape`` and
    ``pred_instances``, every image once. A ValueError says that it is none, or of several data sets
    with equal ids.
    """
    with open(path, 'rb') as file:
        try:
            found = DataUnpickler(file).load()
        except Exception as error:  # a damaged pickle raises nearly anything
            reason = str(error) or type(error).__name__
            raise ValueError(
                f'{path} cannot be read as a dump ({reason}): if it was cut off or damaged, copy '
                'or write it again'
            ) from None
    if not isinstance(found, list) or not all(
        isinstance(s, dict) and isinstance(s.get('img_id', []), Hashable) for s in found
    ):
        raise ValueError(f'{path} is no dump of `mim test --out`: expected a list of data samples')
    try:
        return list(first_of_each((s['img_id'], str(s.get('img_path')), s) for s in found).values())
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from None
