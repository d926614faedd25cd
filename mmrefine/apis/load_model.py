"""Build a model from a config and load its checkpoint; raise if they do not match."""

import contextlib
import hashlib
import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmdet.apis import init_detector
from mmengine.config import Config
from mmengine.utils import get_installed_path
from torch import nn

from mmrefine.checkpoint import read_checkpoint
from mmrefine.results.files import value_digest

NAMED = 3  # keys listed in an error


def load_model(
    config: str | Path | Config,
    checkpoint: str | Path,
    device: str = 'cpu',
    unused: Sequence[str] = (),
) -> nn.Module:
    """Call ``mmdet.apis.init_detector``, and raise if the weights do not fill the model.

    mmengine only logs missing weights and leaves random ones.

    Args:
        config: Config of the model, see ``read_config``.
        checkpoint: Its weights; those of the original code are recognised as in training.
        device: ``'cpu'`` or ``'cuda:N'``.
        unused: Beginnings of the names of parts that may be missing.

    Raises:
        OSError: There is no such file.
        ValueError: No such device, no config of a whole detector, or the checkpoint cannot be read
            or is one of another model.
    """
    place = checked_device(device)
    config = config if isinstance(config, Config) else read_config(config)
    if 'test_dataloader' not in config:
        raise ValueError(
            f'{config.filename} has no test_dataloader, whose pipeline prepares pictures: give the '
            'config of a whole detector, not of a part'
        )
    state = read_checkpoint(checkpoint)
    # Only our reader knows Torch7 files; the weights come with `require_weights` in any case.
    known = None if Path(checkpoint).suffix == '.t7' else str(checkpoint)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        # it prints how it reads the file, and takes COCO's classes for those of weights without
        # names: ``class_names`` looks further
        warnings.filterwarnings('ignore', 'dataset_meta or class names are not saved')
        try:
            model = init_detector(config, known, device=str(place))
        except KeyError as error:  # a registry tells of unknown types so
            raise ValueError(f'{config.filename} builds no detector: {error.args[0]}') from error
    require_weights(model, state, str(checkpoint), unused)
    return model


def model_digest(model: nn.Module) -> str:
    """A short text that two models share if their configs and weights are equal."""
    found = hashlib.sha256(value_digest(model.cfg.to_dict()).encode())
    for name, value in model.state_dict().items():
        found.update(name.encode())
        found.update(value.cpu().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()[:16]


def read_config(path: str | Path, entry: str = 'model') -> Config:
    """Read a config, a file or the name of an installed one (``mmdet::FOLDER/NAME.py``), that must
    have an entry; a ValueError says that it is no Python config, or lacks it."""
    if Path(path).suffix in ('.yml', '.yaml'):
        raise ValueError(
            f'{path} is refused: MMEngine runs code that YAML files may hold; write the config as '
            'Python (.py)'
        )
    try:
        package, named, name = str(path).partition('::')
        file = Path(get_installed_path(package), '.mim', 'configs', name) if named else path
        config = Config.fromfile(file)
    except FileNotFoundError:
        raise
    except Exception as error:  # a config is a program, and may fail in any way
        kind = type(error).__name__
        raise ValueError(f'{path} is no config: {kind}: {error}') from error
    if entry not in config:
        raise ValueError(f'{path} has no {entry}: give the config of a detector')
    return config


def checked_device(name: str) -> torch.device:
    """Find a device by its name."""
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f'{name!r} is no device: give cpu or cuda:N') from None
    count = torch.cuda.device_count()
    if device.type == 'cuda' and (device.index or 0) >= count:
        raise ValueError(f'there is no {name}: PyTorch finds {count} GPUs; give --device cpu')
    return device


def require_weights(
    model: nn.Module, state: dict[str, Any], name: str, unused: Sequence[str] = ()
) -> None:
    """Load weights, in a layout the model recognises, and make sure that they fill it.

    ``name`` is that of their file, ``unused`` are beginnings of the names of parts that may be
    missing.
    """
    try:
        missing = model.load_state_dict(state, strict=False).missing_keys
    except RuntimeError as error:  # a heading, then a line for every weight that does not fit
        heading, *lines = str(error).splitlines()
        told = ' '.join(line.strip() for line in (lines or [heading])[:NAMED])
        more = f' and {len(lines) - NAMED} more' if len(lines) > NAMED else ''
        raise ValueError(f'{name} is of another model than the config: {told}{more}') from error
    missing = [
        key
        for key in missing
        if not key.startswith(tuple(unused)) and not key.endswith('num_batches_tracked')
    ]
    if missing:
        more = f' and {len(missing) - NAMED} more' if len(missing) > NAMED else ''
        raise ValueError(
            f'{name} is of another model than the config: it lacks '
            f'{", ".join(missing[:NAMED])}{more}'
        )
