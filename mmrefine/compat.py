"""What today's torch needs so that stock mmengine loads checkpoints: nothing else.

torch >= 2.6 unpickles only allow-listed types and mmengine's own checkpoints hold others. The
harmless ones are allowed; the guard itself stays on. ``evaluation/numpy_names.py`` does what NumPy
needs, ``loading_errors.py`` explains what fails all the same.
"""

import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer


def allow_checkpoint_types() -> None:
    """Let ``torch.load`` rebuild what mmengine's and the papers' checkpoints hold beside tensors.

    These are mmengine's log buffers and NumPy arrays, scalars and types. Nothing on the list runs
    code of the file's choosing.
    """
    if hasattr(torch.serialization, 'add_safe_globals'):
        torch.serialization.add_safe_globals(list(_harmless_types()))


def _harmless_types() -> Iterator[Any]:
    yield HistoryBuffer
    yield _statistic, 'builtins.getattr'
    yield _statistic, '__builtin__.getattr'
    core = np._core if hasattr(np, '_core') else np.core
    for function in (core.multiarray._reconstruct, core.multiarray.scalar):
        # The package was renamed in NumPy 2; files written before and after both occur.
        for package in ('numpy.core.multiarray', 'numpy._core.multiarray'):
            yield function, f'{package}.{function.__name__}'
    yield np.ndarray
    yield np.dtype
    yield from {type(np.dtype(code)) for code in '?bhilqBHILQefdgFDSU'} - {np.dtype}


def _statistic(owner: Any, name: str) -> Callable:
    """Stand in for ``getattr`` in checkpoints: hand out the statistics of log buffers only."""
    if owner is HistoryBuffer and name in ('min', 'max', 'mean', 'current'):
        return getattr(HistoryBuffer, name)
    owner_name = getattr(owner, '__qualname__', type(owner).__qualname__)
    raise pickle.UnpicklingError(f'GLOBAL getattr({owner_name},{name!r}) is not allowed')
