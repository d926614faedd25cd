"""Read checkpoints, ours and the authors', and convert those of the original implementations.

Each paper's ``checkpoint.py`` describes its authors' files by a table of ``Converter``s. This
module finds the one that fits a file, when a detector loads it (``rename_authors_weights``) or when
``tools/convert_checkpoint.py`` writes it anew, and checks the result against a model.
"""

import importlib
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from mmrefine.results.files import atomic_file

from . import loading_errors, safetensors_file  # noqa: F401  (loaders of mmengine's)

StateDict = dict[str, Tensor]

PAPERS = ('refinemask', 'sipmask', 'embedmask', 'sharpmask')


class CheckpointError(ValueError):
    """A checkpoint is damaged, foreign, or does not fit the model."""


@dataclass(frozen=True)
class Converter:
    """Turns checkpoints of one original generation into state dicts of this package."""

    name: str  # generation, e.g. ``sipmask-benchmark``
    # tells from the keys (and shapes) whether a state dict is of this generation
    recognise: Callable[[Mapping[str, Tensor]], bool]
    # renames and adjusts; must not change its argument
    convert: Callable[[Mapping[str, Tensor]], StateDict]
    # regular expressions (full match, converted names) of layers whose size follows the number of
    # classes
    class_keys: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()  # file types only this converter reads, with ``read``
    # reads such a file into a flat mapping of names to tensors
    read: Callable[[Path], StateDict] | None = None


def converters() -> list[Converter]:
    """All converters of the package, in the order of the papers."""
    modules = (importlib.import_module(f'{__package__}.{paper}.checkpoint') for paper in PAPERS)
    return [converter for module in modules for converter in module.CONVERTERS]


def read_checkpoint(path: str | Path) -> StateDict:
    """Read the weights of a checkpoint, a file or an address, without executing anything it
    contains.

    Accepts mmcv/mmengine files (``state_dict``), maskrcnn-benchmark and AdelaiDet files
    (``model``), plain state dicts, and the file types that a converter reads itself. A leading
    ``module.`` is removed.

    Raises:
        CheckpointError: The file is truncated, no checkpoint, or needs code to be executed.
        OSError: There is no such file, or it cannot be fetched.
    """
    if '://' not in str(path) and not Path(path).is_file():
        raise FileNotFoundError(f'no checkpoint at {path}')
    for converter in converters():
        if converter.read is not None and Path(path).suffix in converter.suffixes:
            if '://' in str(path):
                raise CheckpointError(f'{path} can be read from a file only: download it first')
            return converter.read(Path(path))
    try:
        content = CheckpointLoader.load_checkpoint(str(path), 'cpu', logger='silent')
    except OSError:
        raise
    except Exception as error:  # damage and refused globals come as many types
        raise CheckpointError(
            f'cannot read the weights, {path} is no checkpoint of plain tensors: {error}'
        ) from error
    weights = _weights(content)
    if not weights:
        raise CheckpointError(
            f'{path} holds no weights: expected state_dict, model, or tensors by name'
        )
    return weights


def _weights(content: Any) -> StateDict:
    for entry in ('state_dict', 'model'):
        if isinstance(content, Mapping) and isinstance(content.get(entry), Mapping):
            content = content[entry]
    if not isinstance(content, Mapping):
        return {}
    return {
        key.removeprefix('module.'): value
        for key, value in content.items()
        if isinstance(value, Tensor)
    }


def rename_authors_weights(module: nn.Module, state_dict: dict, prefix: str, *_: Any) -> None:
    """Rename the entries of an author's state dict in place; leave any other one alone.

    Detectors register this with ``register_load_state_dict_pre_hook``, so that ``load_from`` takes
    the authors' files as they are. Only an outermost detector, without prefix, renames; benchmark
    files wrap their weights in ``model``.
    """
    weights = {} if prefix else _weights(state_dict)
    fitting = [c for c in converters() if c.recognise(weights)]
    if len(fitting) == 1:
        converted = fitting[0].convert(weights)
        state_dict.clear()
        state_dict.update(converted)


def tower_layer(target: str) -> Callable[[re.Match], str]:
    """Name of the layer at a position of a published tower, where a convolution, its norm and the
    ReLU take three."""
    return lambda match: f'{target}.{int(match[1]) // 3}.{"gn" if int(match[1]) % 3 else "conv"}.'


def pyramid_layer(target: str, first: int) -> Callable[[re.Match], str]:
    """Name of a convolution of the neck; published names begin to count at ``first``."""
    return lambda match: f'neck.{target}.{int(match[1]) - first}.conv.'


# Start of a name, a regular expression, and what stands in its place; no name drops the entry.
Rule = tuple[str, str | Callable[[re.Match], str]]

FCOS_RULES: list[Rule] = [
    (r'bbox_head\.cls_tower\.(\d+)\.', tower_layer('bbox_head.cls_convs')),
    (r'bbox_head\.bbox_tower\.(\d+)\.', tower_layer('bbox_head.reg_convs')),
    (r'bbox_head\.cls_logits\.', 'bbox_head.conv_cls.'),
    (r'bbox_head\.bbox_pred\.', 'bbox_head.conv_reg.'),
    (r'bbox_head\.(?:centerness|ctrness)\.', 'bbox_head.conv_centerness.'),
]
# Of detectors that build on maskrcnn-benchmark's FCOS.
BENCHMARK_RULES: list[Rule] = [
    (r'backbone\.body\.(?:stem\.)?', 'backbone.'),
    (r'backbone\.fpn\.fpn_inner(\d)\.', pyramid_layer('lateral_convs', 2)),
    (r'backbone\.fpn\.fpn_layer(\d)\.', pyramid_layer('fpn_convs', 2)),
    (r'backbone\.fpn\.top_blocks\.p(\d)\.', pyramid_layer('fpn_convs', 3)),
    (r'rpn\.head\.', 'bbox_head.'),
    *FCOS_RULES,
]
# Benchmark's norm divides by sqrt(var) without epsilon, mmdet's adds this one.
BENCHMARK_EPS = 1e-5


def rename(key: str, rules: Iterable[Rule]) -> str:
    """Name of a layer after all rules, one after the other; names without a rule stay as they are,
    so that a strict load names them."""
    for pattern, target in rules:
        if match := re.match(pattern, key):
            start = target(match) if callable(target) else match.expand(target)
            key = start + key[match.end() :]
    return key


def convert_layers(
    state_dict: Mapping[str, Tensor], rules: Iterable[Rule], norm_shift: float
) -> StateDict:
    """Rename the layers of a maskrcnn-benchmark or AdelaiDet file.

    Scales become scalars. ``norm_shift`` is subtracted from the backbone's variances, so that its
    norms keep their output. The counter that today's batch norm stores is added.
    """
    converted: StateDict = {}
    for key, value in state_dict.items():
        name = rename(key, rules)
        if not name:
            continue
        if name.endswith('.scale'):
            value = value.reshape(())
        if name.startswith('backbone.') and name.endswith('running_var'):
            value = value - norm_shift
            converted[name.replace('running_var', 'num_batches_tracked')] = torch.tensor(0)
        converted[name] = value
    return converted


def recognise(state_dict: Mapping[str, Tensor]) -> Converter:
    """The converter whose generation the keys show; CheckpointError if none, or more than one,
    fits."""
    fitting = [c for c in converters() if c.recognise(state_dict)]
    if len(fitting) == 1:
        return fitting[0]
    known = ', '.join(c.name for c in fitting or converters())
    example = ', '.join(list(state_dict)[:3])
    if fitting:
        raise CheckpointError(
            f'the keys ({example}, ...) fit several kinds: {known}; name one with --kind'
        )
    raise CheckpointError(
        f'the keys ({example}, ...) belong to no known checkpoint; known: {known}'
    )


def mismatches(
    model: nn.Module, state_dict: Mapping[str, Tensor], skipped: Collection[str] = ()
) -> list[str]:
    """Sentences naming every missing, unexpected or wrongly shaped entry; empty if all fit.

    Keys in ``skipped`` may be missing.
    """
    expected = model.state_dict()
    missing = [key for key in expected if key not in state_dict and key not in skipped]
    return [
        *(f'missing {key} {tuple(expected[key].shape)}' for key in missing),
        *(f'unexpected {k} {tuple(v.shape)}' for k, v in state_dict.items() if k not in expected),
        *(
            f'{key} has shape {tuple(value.shape)}, the model wants {tuple(expected[key].shape)}'
            for key, value in state_dict.items()
            if key in expected and value.shape != expected[key].shape
        ),
    ]


def convert(
    state_dict: Mapping[str, Tensor],
    model: nn.Module | None = None,
    kind: str | None = None,
    skip_classifier: bool = False,
) -> tuple[StateDict, str]:
    """Convert a foreign state dict and, given a model, prove that it loads strictly.

    Args:
        state_dict: As read by ``read_checkpoint``.
        model: The model it is meant for.
        kind: Name of a converter; recognised from the keys if omitted.
        skip_classifier: Leave out class-dependent layers whose shape differs from the model's.

    Returns:
        The converted state dict and the name of the converter.

    Raises:
        CheckpointError: Nothing fits; each entry that does not fit the model is named.
    """
    if kind is None:
        converter = recognise(state_dict)
    else:
        table = {c.name: c for c in converters()}
        if kind not in table:
            raise CheckpointError(f'unknown kind {kind!r}; known: {", ".join(table)}')
        converter = table[kind]
    converted = converter.convert(state_dict)
    if model is None:
        return converted, converter.name
    skipped: list[str] = []
    if skip_classifier:
        expected = model.state_dict()
        skipped = [
            key
            for key, value in converted.items()
            if any(re.fullmatch(pattern, key) for pattern in converter.class_keys)
            and key in expected
            and expected[key].shape != value.shape
        ]
    converted = {key: value for key, value in converted.items() if key not in skipped}
    if wrong := mismatches(model, converted, skipped):
        shown = '\n  '.join(wrong[:30])
        more = f'\n  ... and {len(wrong) - 30} more' if len(wrong) > 30 else ''
        raise CheckpointError(f'the checkpoint does not fit the model:\n  {shown}{more}')
    return converted, converter.name


def write_checkpoint(path: str | Path, state_dict: StateDict, **meta: str) -> None:
    """Write an mmengine checkpoint, whole or not at all."""
    with atomic_file(path, 'wb') as file:
        try:
            torch.save(dict(meta=meta, state_dict=state_dict), file)
        except RuntimeError as error:  # torch's own word for a full disk
            raise OSError(f'cannot write {path}: {error}') from error
