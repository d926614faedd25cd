"""Read the pickles of `mim test --out` without executing code that a pickle may hold."""

import collections
import io
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import _utils as torch_utils

NUMBERS = re.compile(r'b1|[iu][1248]|f[248]|U\d{1,4}')  # types of arrays that a dump may hold


class _DType:
    """Stands in for ``numpy.dtype``, whose pickled state would be taken as the file has it."""

    def __init__(self, code: str, align: bool = False, copy: bool = True) -> None:
        self.checked = np.dtype(self._number(code))

    def __setstate__(self, state: tuple) -> None:
        if state[1] not in ('<', '>', '=', '|') or any(part is not None for part in state[2:5]):
            raise pickle.UnpicklingError(f'it holds an array of the type {state!r}')
        self.checked = np.dtype(state[1] + self.checked.str[1:])

    @staticmethod
    def _number(code: Any) -> str:
        if not isinstance(code, str) or not NUMBERS.fullmatch(code):
            raise pickle.UnpicklingError(f'it holds an array of the type {code!r}, no numbers')
        return code


class _Array(np.ndarray):
    """Stands in for ``numpy.ndarray``; its state is checked before NumPy takes it."""

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, data = state
        _from_bytes(data, dtype, shape, 'F' if fortran else 'C')
        checked: Any = (1, shape, dtype.checked, bool(fortran), data)
        super().__setstate__(checked)


def _reconstruct(kind: Any, shape: Any, code: Any) -> np.ndarray:
    return _Array((0,), np.uint8)


def _from_bytes(data: Any, dtype: _DType, shape: Any, order: Any) -> np.ndarray:
    """Array of a type and shape whose number of bytes is right; ValueError otherwise."""
    if type(dtype) is not _DType or not isinstance(data, (bytes, bytearray)):
        raise pickle.UnpicklingError('it holds an array that is not made of numbers')
    return np.frombuffer(data, dtype.checked).reshape(shape, order=order)


def _scalar(dtype: _DType, data: bytes = b'') -> Any:
    return _from_bytes(data, dtype, (1,), 'C')[0]


def _load_storage(data: bytes) -> Any:
    """Stand in for torch's own function, which unpickles without guard."""
    if b'numpy' in data:  # whose types are allowed in checkpoints, with the state that they bring
        raise pickle.UnpicklingError('it holds a storage with more than numbers')
    return torch.load(io.BytesIO(data), weights_only=True)


def _latin1(text: str, encoding: str) -> bytes:
    if encoding != 'latin1':
        raise pickle.UnpicklingError(f'it holds bytes as {encoding!r}, which no pickle does')
    return text.encode('latin1')


def _no_bytes() -> bytes:
    return b''


def _allowed() -> dict[tuple[str, str], Any]:
    table: dict[tuple[str, str], Any] = {
        ('collections', 'OrderedDict'): collections.OrderedDict,
        ('torch._utils', '_rebuild_tensor_v2'): torch_utils._rebuild_tensor_v2,
        ('torch.storage', '_load_from_bytes'): _load_storage,
        ('numpy', 'ndarray'): _Array,
        ('numpy', 'dtype'): _DType,
        # MMEngine writes protocol 2, where bytes are text to be encoded, or a call for none
        ('_codecs', 'encode'): _latin1,
        ('__builtin__', 'bytes'): _no_bytes,
    }
    for package in ('numpy.core', 'numpy._core'):
        table[f'{package}.multiarray', '_reconstruct'] = _reconstruct
        table[f'{package}.multiarray', 'scalar'] = _scalar
        table[f'{package}.numeric', '_frombuffer'] = _from_bytes
    return table


class DataUnpickler(pickle.Unpickler):
    """Builds tensors, arrays and plain containers; refuses everything else."""

    allowed = _allowed()

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
    ``pred_instances``.
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
    if not isinstance(found, list) or not all(isinstance(s, dict) and 'img_id' in s for s in found):
        raise ValueError(f'{path} is no dump of `mim test --out`: expected a list of data samples')
    return found
