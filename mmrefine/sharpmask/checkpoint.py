"""Names and shapes of the authors' checkpoints, and their conversion.

Origin:   facebookresearch/deepmask (``model.t7``), foolwood/deepmask-pytorch (``DeepMask.pth.tar``)

The tables are built from the architecture, so that every path of a file is accounted for by name
and shape.
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmrefine.checkpoint import Converter

from .torch7 import Torch7Object, load_torch7, lookup

BN_EPS = 1e-5
_BLOCKS = (3, 4, 6)
# Index of the first convolution in each horizontal branch: all but the first cut the map before.
_HORIZONTAL_FIRST = (1, 2, 2, 2)
_BN_FIELDS = ('weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked')


def _trunk() -> Iterator[tuple[str, str, str, bool]]:
    """(ours, port, t7, whether it is a normalisation) of every layer of the trunk."""
    yield 'conv1', '0.1', 'modules[1].modules[2]', False
    yield 'bn1', '1', 'modules[2]', True
    for layer, blocks in enumerate(_BLOCKS, 1):
        for block in range(blocks):
            ours, port = f'layer{layer}.{block}', f'{layer + 3}.{block}'
            t7 = f'modules[{layer + 4}].modules[{block + 1}].modules[1]'
            # In Torch7 a ReLU follows each normalisation, so that every third module is a
            # convolution; that of 3x3 stands behind its padding.
            for i, position in ((1, 1), (2, 4), (3, 7)):
                inner, conv = ('.1', '.modules[2]') if i == 2 else ('', '')
                at = f'{t7}.modules[1].modules'
                yield f'{ours}.conv{i}', f'{port}.conv{i}{inner}', f'{at}[{position}]{conv}', False
                yield f'{ours}.bn{i}', f'{port}.bn{i}', f'{at}[{position + 1}]', True
            if block == 0:
                for i in (0, 1):
                    side = f'downsample.{i}'
                    at = f'{t7}.modules[2].modules[{i + 1}]'
                    yield f'{ours}.{side}', f'{port}.{side}', at, i == 1


def _heads(sharpmask: bool) -> Iterator[tuple[str, str, str]]:
    """(ours, port, t7) of every layer of the heads."""
    branch = 'maskBranchDM' if sharpmask else 'maskBranch'
    yield 'mask_head.reduce_conv', 'trunk.1.0', 'trunk.modules[9]'
    yield 'mask_head.encoder', 'trunk.1.2', 'trunk.modules[12]'
    yield 'mask_head.mask_fc', f'{branch}.0.0', f'{branch}.modules[1].modules[1]'
    yield 'mask_head.score_fc1', 'scoreBranch.1', 'scoreBranch.modules[2]'
    yield 'mask_head.score_fc2', 'scoreBranch.4', 'scoreBranch.modules[5]'
    if not sharpmask:
        return
    yield 'refine_head.mask_encoding', 'netvs.0', 'refs[0].modules[1]'
    for stage, first in enumerate(_HORIZONTAL_FIRST):
        for i in range(3):
            ours = f'refine_head.stages.{stage}.horizontal.{i}'
            index = first + 3 * i
            yield ours, f'neths.{stage}.{index}', f'neths[{stage + 1}].modules[{index + 1}]'
        for i in range(2):
            ours = f'refine_head.stages.{stage}.vertical.{i}'
            index = 1 + 3 * i
            yield ours, f'netvs.{stage + 1}.{index}', f'netvs[{stage + 1}].modules[{index + 1}]'
    yield 'refine_head.predictor', 'refs.5.1', 'refs[4].modules[6]'


def port_names(sharpmask: bool) -> dict[str, str]:
    """Canonical key of the PyTorch port -> our key."""
    names = {}
    for ours, port, _, norm in _trunk():
        fields = _BN_FIELDS if norm else ('weight',)
        names.update({f'trunk.0.{port}.{f}': f'backbone.{ours}.{f}' for f in fields})
    for ours, port, _ in _heads(sharpmask):
        names.update({f'{port}.{f}': f'{ours}.{f}' for f in ('weight', 'bias')})
    return names


def torch7_names(sharpmask: bool) -> dict[str, str]:
    """Path inside ``model`` of a Torch7 file -> our key.

    Released files hold normalisations folded to ``a * x + b``: a is our weight, b our bias.
    """
    names = {}
    for ours, _, t7, norm in _trunk():
        fields = dict(a='weight', b='bias') if norm else dict(weight='weight')
        names.update({f'trunk.{t7}.{f}': f'backbone.{ours}.{g}' for f, g in fields.items()})
    for ours, _, t7 in _heads(sharpmask):
        names.update({f'{t7}.{f}': f'{ours}.{f}' for f in ('weight', 'bias')})
    return names


def is_port_state(state: Mapping[str, Any]) -> bool:
    """Whether the keys are those of the PyTorch port."""
    return any(key.removeprefix('module.') == 'trunk.0.0.1.weight' for key in state)


def convert_port(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename and reshape a state dict of the PyTorch port (DeepMask or SharpMask).

    The ``module.`` prefix and ``refs.*`` aliases are dropped; a KeyError names missing or unknown
    keys.
    """
    state = {key.removeprefix('module.'): value for key, value in state.items()}
    sharpmask = any(key.startswith('neths.') for key in state)
    branch = 'maskBranchDM' if sharpmask else 'maskBranch'
    for kind in ('weight', 'bias'):  # without the upsampling layer the branch is one level flatter
        if f'{branch}.0.{kind}' in state:
            state[f'{branch}.0.0.{kind}'] = state.pop(f'{branch}.0.{kind}')
    names = port_names(sharpmask)
    alias = re.compile(r'refs\.(0|\d\.layer[12])\.')
    unknown = [key for key in state if key not in names and not alias.match(key)]
    missing = [key for key in names if key not in state and 'num_batches' not in key]
    if unknown or missing:
        raise KeyError(
            f'not a DeepMask/SharpMask state dict: missing {missing[:5]}, unknown {unknown[:5]}'
        )
    converted = {ours: state[key] for key, ours in names.items() if key in state}
    if sharpmask:
        _encode_by_1x1(converted)
    return converted


def _encode_by_1x1(state: dict[str, Tensor]) -> None:
    """Turn the first mask encoding from a transposed convolution on one cell, (D, K, G, G), into
    our 1x1 convolution, (K G G, D, 1, 1)."""
    weight, bias = (state[f'refine_head.mask_encoding.{f}'] for f in ('weight', 'bias'))
    if weight.dim() != 4 or weight.shape[2] == 1:
        return
    codes, channels, grid = weight.shape[:3]
    weight = weight.permute(1, 2, 3, 0).reshape(-1, codes, 1, 1)  # (K G G, D, 1, 1)
    state['refine_head.mask_encoding.weight'] = weight.contiguous()
    if bias.numel() == channels:  # one value per channel serves all cells of the grid
        state['refine_head.mask_encoding.bias'] = bias.repeat_interleave(grid**2)


def collect_torch7(root: Any) -> dict[str, Tensor]:
    """Pick the weights of a released Torch7 file: path inside the model -> fp32 tensor as stored.

    ``root`` is what ``load_torch7`` returned, a table with ``model`` or the model itself; errors
    say that it is no such model or lacks a path.
    """
    model = root.get('model') if isinstance(root, dict) else root
    if not isinstance(model, Torch7Object) or 'trunk' not in model.fields:
        found = model.class_name if isinstance(model, Torch7Object) else type(model).__name__
        raise ValueError(f'expected an nn.DeepMask or nn.SharpMask, found {found}')
    flat = {}
    for path in torch7_names('neths' in model.fields):
        value = lookup(model, path)
        if not isinstance(value, np.ndarray) or value.dtype.kind != 'f' or not 1 <= value.ndim <= 4:
            raise ValueError(f'{path} holds no weight tensor but {type(value).__name__}')
        flat[path] = torch.from_numpy(value.astype(np.float32))
    return flat


def is_torch7_state(state: Mapping[str, Any]) -> bool:
    """Whether the keys are paths of a Torch7 model."""
    return 'trunk.modules[1].modules[2].weight' in state


def convert_torch7(flat: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename and reshape the output of ``collect_torch7`` to a state dict of our models."""
    names = torch7_names(any(path.startswith('neths') for path in flat))
    missing = [path for path in names if path not in flat]
    if missing:
        raise KeyError(f'not a DeepMask/SharpMask file: missing {missing[:5]}')
    converted = {ours: flat[path] for path, ours in names.items()}
    channels = converted['mask_head.reduce_conv.weight'].shape[0]
    for key, value in converted.items():
        if value.dim() == 2:
            # Linear layers of the training form become convolutions, (out, in) -> (out, C, G, G);
            # only the encoder's spans more than one cell.
            inner = channels if key == 'mask_head.encoder.weight' else value.shape[1]
            grid = math.isqrt(value.shape[1] // inner)
            converted[key] = value.reshape(value.shape[0], inner, grid, grid)
    for ours in (name for name, _, _, norm in _trunk() if norm):
        weight = converted[f'backbone.{ours}.weight']
        # With this mean and variance the normalisation itself is the identity, a * x + b remains.
        converted[f'backbone.{ours}.running_mean'] = torch.zeros_like(weight)
        converted[f'backbone.{ours}.running_var'] = torch.full_like(weight, 1 - BN_EPS)
        converted[f'backbone.{ours}.num_batches_tracked'] = torch.zeros((), dtype=torch.long)
    return converted


CONVERTERS = [
    Converter('deepmask-port', is_port_state, convert_port),
    Converter(
        'deepmask-torch7',
        is_torch7_state,
        convert_torch7,
        suffixes=('.t7',),
        read=lambda path: collect_torch7(load_torch7(path)),
    ),
]
