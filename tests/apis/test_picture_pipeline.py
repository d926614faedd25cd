"""Pictures from files and from memory reach the model alike."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmrefine.apis.picture_pipeline import PicturePipeline
from mmrefine.apis.views import View

PIXELS = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)


def config(**loader: object) -> Config:
    steps = [
        {'type': 'LoadImageFromFile', **loader},
        {'type': 'mmdet.Resize', 'scale': (45, 45), 'keep_ratio': True},
        {'type': 'mmdet.LoadAnnotations', 'with_mask': True},
        {'type': 'mmdet.PackDetInputs', 'meta_keys': ('ori_shape', 'img_shape', 'scale_factor')},
    ]
    return Config({'test_dataloader': {'dataset': {'pipeline': steps}}})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    cv2.imwrite(str(tmp_path / 'a.png'), PIXELS)
    return tmp_path / 'a.png'


@pytest.mark.parametrize('floats', [False, True])
def test_an_array_is_prepared_as_its_file(file: Path, floats: bool) -> None:
    prepare = PicturePipeline(config(to_float32=floats))
    one, other = prepare(str(file)), prepare(PIXELS)
    expected = cv2.resize(PIXELS.astype(np.float32) if floats else PIXELS, (45, 30))
    assert np.array_equal(one['inputs'].permute(1, 2, 0).numpy(), expected)
    assert torch.equal(one['inputs'], other['inputs'])
    assert one['data_samples'].metainfo == other['data_samples'].metainfo
    assert np.array_equal(prepare.read(file), PIXELS)


def test_loaders_that_have_to_see_the_file_are_known() -> None:
    stock = config()
    assert PicturePipeline(stock).reads_arrays
    stock.test_dataloader.dataset.pipeline[0].imdecode_backend = 'pillow'
    assert not PicturePipeline(stock).reads_arrays


def test_a_view_changes_size_and_side(file: Path) -> None:
    plain = PicturePipeline(config(), View(2.0))(file)['inputs']
    turned = PicturePipeline(config(), View(2.0, 'horizontal'))(file)['inputs']
    assert plain.shape == (3, 60, 90) and torch.equal(turned, plain.flip(-1))


def test_what_is_no_picture_is_told(tmp_path: Path) -> None:
    prepare = PicturePipeline(config())
    (tmp_path / 'bad.jpg').write_bytes(b'no picture')
    for given, message in (
        (tmp_path / 'bad.jpg', 'bad.jpg is no image the test pipeline can take'),
        (tmp_path / 'nowhere.jpg', 'there is no image .*nowhere.jpg'),
        (PIXELS[..., :2], r'an image array must be uint8 .* got uint8 of shape \(20, 30, 2\)'),
        (PIXELS.astype(np.float32), 'got float32'),
    ):
        with pytest.raises(ValueError, match=message):
            prepare(given)
    with pytest.raises(TypeError, match='a path or an array, got NoneType'):
        prepare(None)
