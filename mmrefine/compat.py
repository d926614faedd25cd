"""What today's torch and NumPy need so that stock mmengine and mmdet run: nothing else.

* Checkpoints: torch >= 2.6 unpickles only allow-listed types and mmengine's own checkpoints hold
  others. The harmless ones are allowed; the guard itself stays on.
* Loading errors are told in a sentence that names the file and the way out.
* NumPy names that the LVIS, YouTube-VIS and Cityscapes metrics still use are supplied inside those
  modules; NumPy itself is not touched.
"""

import errno
import functools
import importlib.abc
import importlib.machinery
import importlib.util
import pickle
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

NUMPY_ALIASES = {'float': float, 'int': int, 'bool': bool, 'object': object, 'in1d': np.isin}

USERS_OF_ALIASES = (
    'lvis.eval',
    'mmdet.evaluation.functional.ytviseval',
    'cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling',
)


def install() -> None:
    """Allow the checkpoint types now, and adapt the other modules when they are imported."""
    allow_checkpoint_types()
    adapt('mmengine.runner.checkpoint', explain_loading_errors)
    for module in USERS_OF_ALIASES:
        adapt(module, supply_numpy_aliases)


# ------------------------------------------------------------------------------------- checkpoints


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


def explain_loading_errors(checkpoint: ModuleType) -> None:
    """Replace the loaders of ``mmengine.runner.checkpoint`` by ones with telling errors."""
    register = checkpoint.CheckpointLoader.register_scheme
    local, http = explained(checkpoint.load_from_local), explained(checkpoint.load_from_http)
    register(prefixes='', loader=local, force=True)
    register(prefixes=('http://', 'https://'), loader=http, force=True)
    torchvision = _without_torchvision(checkpoint.load_from_torchvision, http)
    register(prefixes=('modelzoo://', 'torchvision://'), loader=torchvision, force=True)


def explained(load: Callable) -> Callable:
    """Wrap a loader ``(filename, ...) -> checkpoint``; its errors then name the file and the fix.

    Raises:
        pickle.UnpicklingError: The file asks for something that is not data; the message names it.
        RuntimeError: The file is truncated or no checkpoint at all.
    """

    @functools.wraps(load)
    def wrapper(filename: str, *args: Any, **kwargs: Any) -> Any:
        try:
            return load(filename, *args, **kwargs)
        except pickle.UnpicklingError as error:
            # `from None`: torch's own text advises to switch the guard off.
            foreign = re.search(r'GLOBAL (\S+)|(?:function|but got) (.+)', str(error))
            if foreign is None:
                raise _damaged(filename, error) from None
            raise pickle.UnpicklingError(
                f'{filename} holds {foreign[1] or foreign[2]}, which is no tensor data and could '
                'run code: refused. If you trust the author, load the file where it was written '
                'and save its state dict alone: torch.save(checkpoint["state_dict"], NEW_FILE)'
            ) from None
        except EOFError as error:
            raise _damaged(filename, error) from None
        except OSError as error:
            # torch reads beyond the end of some truncated files.
            if error.errno != errno.EINVAL:
                raise
            raise _damaged(filename, error) from None
        except RuntimeError as error:
            if 'PytorchStreamReader' not in str(error) and 'unexpected EOF' not in str(error):
                raise
            raise _damaged(filename, error) from None

    return wrapper


def _damaged(filename: str, error: Exception) -> RuntimeError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return RuntimeError(
        f'{filename} is truncated, damaged or no torch checkpoint ({reason}): copy or download it '
        'again; after an interrupted training resume from the checkpoint before it'
    )


def _without_torchvision(load: Callable, http: Callable) -> Callable:
    @functools.wraps(load)
    def wrapper(filename: str, map_location: Any = None) -> Any:
        try:
            return load(filename, map_location)
        except (ImportError, RuntimeError) as error:
            # A torchvision of another torch fails with "operator torchvision::nms does not exist".
            if 'torchvision' not in str(error):
                raise
            name = filename.partition('://')[2]
            url = _torchvision_urls().get(name)
            if url is not None:
                return _download(filename, url, http, map_location)
            raise ModuleNotFoundError(_torchvision_message(filename, str(error))) from error

    return wrapper


def _download(filename: str, url: str, http: Callable, map_location: Any) -> Any:
    try:
        return http(url, map_location)
    except OSError as error:
        message = _torchvision_message(filename, f'torchvision is not installed; {url}: {error}')
        raise OSError(message) from error


def _torchvision_urls() -> dict[str, str]:
    """Addresses of torchvision's classic weights: mmengine has a list of its own."""
    import mmengine

    return mmengine.load(f'{mmengine.__path__[0]}/hub/torchvision_0.12.json')


def _torchvision_message(filename: str, reason: str) -> str:
    release = re.match(r'2\.(\d+)\.(\d+)', torch.__version__)
    matching = f'==0.{int(release[1]) + 15}.{release[2]}' if release else ''
    return (
        f'cannot get the weights {filename} ({reason}). Install the torchvision of torch '
        f'{torch.__version__} (`pip install --no-deps torchvision{matching}`), name a local file '
        'in init_cfg.checkpoint, or train from scratch: '
        '--cfg-options model.backbone.init_cfg=None'
    )


# ------------------------------------------------------------------------------------------- NumPy


def supply_numpy_aliases(module: ModuleType) -> None:
    """Give one module a NumPy namespace in which the removed names exist."""
    missing = {name: value for name, value in NUMPY_ALIASES.items() if name not in vars(np)}
    if missing and getattr(module, 'np', None) is np:
        namespace = ModuleType('numpy', np.__doc__)
        vars(namespace).update(vars(np), **missing)
        module.np = namespace  # type: ignore[attr-defined]


# --------------------------------------------------------------------------- adapting other modules


class _Adapter(importlib.abc.MetaPathFinder):
    """Runs a function on a module right after its import."""

    def __init__(self) -> None:
        self.actions: dict[str, Callable[[ModuleType], None]] = {}
        self.asking: set[str] = set()

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in self.actions or name in self.asking:
            return None
        self.asking.add(name)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self.asking.discard(name)
        if spec is None or spec.loader is None:
            return None
        execute, action = spec.loader.exec_module, self.actions[name]

        def exec_module(module: ModuleType) -> None:
            execute(module)
            action(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


_ADAPTER = _Adapter()


def adapt(name: str, action: Callable[[ModuleType], None]) -> None:
    """Run ``action`` on the module ``name``: now if it is imported, else as soon as it is."""
    if name in sys.modules:
        action(sys.modules[name])
        return
    _ADAPTER.actions[name] = action
    if _ADAPTER not in sys.meta_path:
        sys.meta_path.insert(0, _ADAPTER)
