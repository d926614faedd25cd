"""Stand-ins for what NumPy's pickles call, which take numbers and nothing else.

A pickled ``numpy.dtype`` is filled with the state that the file brings; a forged one makes NumPy
read memory at addresses of the file's choosing. Here types come from checked strings, and arrays
from checked shapes and numbers of bytes.
"""

import math
import pickle
import re
from typing import Any

import numpy as np

NUMBERS = re.compile(r'b1|[iu][1248]|f(2|4|8|12|16)|c(8|16)|[SU]\d{1,4}')


class PlainDType:
    """Stands in for ``numpy.dtype``."""

    def __init__(self, code: str, align: bool = False, copy: bool = True) -> None:
        if not isinstance(code, str) or not NUMBERS.fullmatch(code):
            raise pickle.UnpicklingError(f'it holds an array of the type {code!r}, no numbers')
        self.checked = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        if state[1] not in ('<', '>', '=', '|') or any(part is not None for part in state[2:5]):
            raise pickle.UnpicklingError(f'it holds an array of the type {state!r}')
        self.checked = np.dtype(state[1] + self.checked.str[1:])


class PlainArray(np.ndarray):
    """Stands in for ``numpy.ndarray``; its state is checked before NumPy takes it. Copies and
    pickles of it are plain arrays."""

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, data = state
        _from_bytes(data, dtype, shape, 'F' if fortran else 'C')
        checked: Any = (1, shape, dtype.checked, bool(fortran), data)
        super().__setstate__(checked)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.view(np.ndarray).__reduce_ex__(protocol)

    def __deepcopy__(self, memo: Any) -> Any:
        return np.array(self)


def _reconstruct(kind: Any, shape: Any, code: Any) -> np.ndarray:
    return PlainArray((0,), np.uint8)


def _from_bytes(data: Any, dtype: PlainDType, shape: Any, order: Any) -> np.ndarray:
    """Array of a type and shape whose number of bytes is right."""
    if type(dtype) is not PlainDType or not isinstance(data, (bytes, bytearray)):
        raise pickle.UnpicklingError('it holds an array that is not made of numbers')
    try:
        if len(data) != math.prod(shape) * dtype.checked.itemsize or min(shape, default=0) < 0:
            raise ValueError
        return np.ndarray(shape, dtype.checked, data, order=order)
    except (TypeError, ValueError):
        raise pickle.UnpicklingError(
            f'it holds an array of {len(data)} bytes with the shape {shape!r}'
        ) from None


def _scalar(dtype: PlainDType, data: bytes = b'') -> Any:
    return _from_bytes(data, dtype, (1,), 'C')[0]


def _no_bytes() -> bytes:
    return b''


def stand_ins() -> dict[tuple[str, str], Any]:
    """(module, name) as NumPy's pickles have them -> what to call instead."""
    table: dict[tuple[str, str], Any] = {
        ('numpy', 'ndarray'): PlainArray,
        ('numpy', 'dtype'): PlainDType,
        # Protocol 2 writes the data of an empty array as this call; torch knows it by its new name.
        ('__builtin__', 'bytes'): _no_bytes,
        ('builtins', 'bytes'): _no_bytes,
    }
    # The package was renamed in NumPy 2; files written before and after both occur.
    for package in ('numpy.core', 'numpy._core'):
        table[f'{package}.multiarray', '_reconstruct'] = _reconstruct
        table[f'{package}.multiarray', 'scalar'] = _scalar
        table[f'{package}.numeric', '_frombuffer'] = _from_bytes
    return table
