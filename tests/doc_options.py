"""Options named in the documentation, looked up in the code: ``Class.option`` -> its default."""

import ast
import functools
import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mmrefine

REQUIRED = inspect.Parameter.empty
# Options that are a dict: whose keys are the arguments of another callable.
NESTED = {
    'EmbedMaskBBoxHead.proposal': 'embedmask.box_head:ProposalLayers.build_proposal_layers',
    'EmbeddedHead.proposal': 'embedmask.box_head:ProposalLayers.build_proposal_layers',
    'EmbedMaskHead.loss': 'embedmask.losses:EmbedMaskLoss',
    'EmbedMaskHead.output': 'embedmask.postprocess:MaskOutput',
    'SipMaskHead.sampling': 'sipmask.losses:select_samples',
}
SETTINGS = ('test_cfg', 'train_cfg')


class UnknownOption(KeyError):
    """The code has no such option."""


def resolve(path: str) -> Any:
    """``'folder.module:name.attribute'`` below the package."""
    module, _, names = path.partition(':')
    found: Any = importlib.import_module(f'mmrefine.{module}')
    for part in names.split('.'):
        found = getattr(found, part)
    return found


def parameters(target: Callable) -> dict[str, Any]:
    """Argument -> default of a function, or of a class and the bases it hands arguments to."""
    if not inspect.isclass(target):
        return {k: p.default for k, p in inspect.signature(target).parameters.items()}
    found: dict[str, Any] = {}
    for base in target.__mro__:
        if '__init__' in vars(base) and base.__module__.split('.')[0] in ('mmrefine', 'mmdet'):
            for key, parameter in inspect.signature(base).parameters.items():
                found.setdefault(key, parameter.default)
    return found


@functools.lru_cache
def settings(folder: str) -> dict[str, list[Any]]:
    """Key -> defaults of all ``config.get(key, default)`` and dict literals of a folder."""
    found: dict[str, list[Any]] = {}
    for path in sorted(Path(mmrefine.__file__).parent.joinpath(folder).rglob('*.py')):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
                found.setdefault(str(node.slice.value), [])
            if not isinstance(node, ast.Call):
                continue
            if getattr(node.func, 'attr', '') == 'get' and isinstance(node.args[0], ast.Constant):
                default = node.args[1] if len(node.args) > 1 else ast.Constant(None)
                found.setdefault(str(node.args[0].value), []).append(literal(default))
            if getattr(node.func, 'id', '') == 'dict':
                for keyword in node.keywords:
                    found.setdefault(str(keyword.arg), []).append(literal(keyword.value))
    return found


def literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ...


def lookup(option: str) -> list[Any]:
    """Defaults an option has in the code, one or several; [REQUIRED] without.

    Raises:
        UnknownOption: There is none of this name.
    """
    owner, _, rest = option.partition('.')
    if owner not in mmrefine.__all__:
        raise UnknownOption(option)
    target = getattr(mmrefine, owner)
    first, _, inner = rest.partition('.')
    if first in SETTINGS and inner:
        folders = {
            base.__module__.split('.')[1]
            for base in target.__mro__
            if 'mmrefine' in base.__module__
        }
        # Detectors on points hand their settings to the selection that they share.
        folders |= {'fcos'} if folders & {'sipmask', 'embedmask'} else set()
        keys = [settings(folder.removesuffix('.py')) for folder in folders]
        found = [known[inner.split('.')[-1]] for known in keys if inner.split('.')[-1] in known]
        if not found:
            raise UnknownOption(option)
        return [default for defaults in found for default in defaults]
    if inner:
        if f'{owner}.{first}' not in NESTED:
            raise UnknownOption(option)
        known = parameters(resolve(NESTED[f'{owner}.{first}']))
        first = inner
    else:
        known = parameters(target)
    if first not in known or first in ('self', 'args', 'kwargs'):
        raise UnknownOption(option)
    return [known[first]]
