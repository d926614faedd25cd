"""Photos of every kind enter training as the colours that they show, or are an error."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from mmdet.registry import TRANSFORMS
from mmengine.dataset import Compose
from PIL import Image

H, W = 60, 80
SQUARE = [8.0, 8.0, 40.0, 8.0, 40.0, 40.0, 8.0, 40.0]
NAMES = ['täglich 1.png', 'a folder/ b.png', 'back\\slash.png', '写真.png', 'hash#1%20.png']


def pixels() -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (W, H), interpolation=cv2.INTER_CUBIC)


def load(path: Path, **image_loading: str) -> dict:
    pipeline = [
        dict(type='LoadImageFromFile', **image_loading),
        dict(type='LoadMaskAnnotations', with_bbox=True),
    ]
    instance = dict(bbox=[8, 8, 40, 40], bbox_label=0, ignore_flag=0, mask=[SQUARE])
    record = dict(img_path=str(path), img_id=1, height=H, width=W, instances=[instance])
    return Compose([TRANSFORMS.build(step) for step in pipeline])(record)


@pytest.mark.parametrize('kind', ['grey', 'alpha', '16 bit', 'cmyk'])
def test_colours_are_those_shown(tmp_path: Path, kind: str) -> None:
    shown, picture = pixels(), Image.fromarray(pixels())
    path = tmp_path / ('a.jpg' if kind == 'cmyk' else 'a.png')
    if kind == '16 bit':
        cv2.imwrite(str(path), shown[..., ::-1].astype(np.uint16) * 257)
    elif kind == 'alpha':
        picture.putalpha(100)
        picture.save(path)
    else:
        picture.convert({'grey': 'L', 'cmyk': 'CMYK'}[kind]).save(path, quality=95)
    if kind == 'grey':
        shown = np.asarray(picture.convert('L'))[..., None].repeat(3, 2)
    results = load(path)
    assert results['img'].dtype == np.uint8
    assert np.abs(results['img'][..., ::-1].astype(int) - shown).max() <= 8 * (kind == 'cmyk')
    assert results['gt_masks'].areas.tolist() == [1024]


@pytest.mark.parametrize('turn', [6, 8])
def test_a_photo_turned_by_exif_does_not_misplace_its_objects(tmp_path: Path, turn: int) -> None:
    picture, path = Image.fromarray(pixels()), tmp_path / 'a.jpg'
    exif = picture.getexif()
    exif[0x112] = turn
    picture.save(path, exif=exif)
    with pytest.raises(ValueError, match=r'60 x 80 pixels.*80 x 60 in the annotations.*EXIF'):
        load(path)
    stored = load(path, color_type='color_ignore_orientation')
    assert stored['img'].shape == (H, W, 3) and len(stored['gt_masks']) == 1


@pytest.mark.parametrize('suffix', ['png', 'jpg'])
def test_truncated_photos_are_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f'a.{suffix}'
    Image.fromarray(pixels()).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(AssertionError, match=f'a.{suffix}'):
        load(path)


@pytest.mark.parametrize('name', NAMES)
def test_names_of_files_are_taken_as_they_are(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels()).save(path)
    assert np.array_equal(load(path)['img'][..., ::-1], pixels())
