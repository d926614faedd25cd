"""What today's torch needs so that stock mmengine loads checkpoints: nothing else.

torch unpickles only allow-listed types and mmengine's own checkpoints hold others. The
harmless ones are allowed; the guard itself stays on. ``evaluation/numpy_names.py`` does what NumPy
needs, ``loading_errors.py`` explains what fails all the same.
"""

import pickle
from collections.abc import Callable, Iterator
from typing import Any

import torch
from mmengine.logging import HistoryBuffer

from .plain_arrays import stand_ins


def allow_checkpoint_types() -> None:
    """Let ``torch.load`` rebuild what mmengine's and the papers' checkpoints hold beside tensors.

    These are mmengine's log buffers and NumPy arrays and numbers. Nothing on the list runs code of
    the file's choosing, or lets it choose what memory an array shows.
    """
    if hasattr(torch.serialization, 'add_safe_globals'):
        torch.serialization.add_safe_globals(list(_harmless_types()))


def _harmless_types() -> Iterator[Any]:
    yield HistoryBuffer
    yield _statistic, 'builtins.getattr'
    yield _statistic, '__builtin__.getattr'
    for (module, name), stand_in in stand_ins().items():
        yield stand_in, f'{module}.{name}'


def _statistic(owner: Any, name: str) -> Callable:
    """Stand in for ``getattr`` in checkpoints: hand out the statistics of log buffers only."""
    if owner is HistoryBuffer and name in ('min', 'max', 'mean', 'current'):
        return getattr(HistoryBuffer, name)
    owner_name = getattr(owner, '__qualname__', type(owner).__qualname__)
    raise pickle.UnpicklingError(f'GLOBAL getattr({owner_name},{name!r}) is not allowed')
