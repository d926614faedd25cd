"""Folders of PNG masks: one map of object numbers a picture, or one PNG an object.

images/a.jpg  masks/a.png            numbers: 0 is background, every other value an object
images/a.jpg  masks/a/1.png, ...     one PNG an object
a/images/a.png  a/masks/1.png, ...   the same, a folder a picture (2018 Data Science Bowl)
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from mmrefine.masks import encode

from .records import Source, SourceImage, SourceObject, named_split, picture_size, pictures_below

MASKS = ('masks', 'mask', 'annotations', 'labels', 'instances')
IMAGES = ('images', 'image', 'imgs')
LABEL = 'object'


def find(source: Path) -> list[Path]:
    """Folders of pictures that have a folder of masks beside them."""
    return list(_mask_folders(source))


def _mask_folders(source: Path) -> dict[Path, Path]:
    """Folder of pictures -> folder of their masks."""
    if not source.is_dir():
        return {}
    found = {}
    for folder in sorted(p for p in source.rglob('*') if p.is_dir() and p.name.lower() in IMAGES):
        for name in MASKS:
            masks = folder.parent / name
            if masks.is_dir() and next(masks.rglob('*.png'), None) is not None:
                found[folder] = masks
                break
    return found


def read(source: Path) -> Source:
    """Read all pictures; PNG masks carry no class names, so there is one class."""
    images = []
    for folder, masks in _mask_folders(source).items():
        pictures = pictures_below(folder)
        for picture in pictures:
            width, height = picture_size(picture)
            split = named_split(folder, source)
            image = SourceImage(picture, width, height, split=split)
            for inside in _objects(picture, masks, alone=len(pictures) == 1):
                if inside.shape != (height, width):
                    raise ValueError(
                        f'{picture.name} has {height} x {width} pixels (height x width), its mask '
                        f'{inside.shape[0]} x {inside.shape[1]}'
                    )
                if inside.any():
                    image.objects.append(SourceObject(LABEL, rle_of(inside)))
            images.append(image)
    return Source(images, [LABEL], [f'PNG masks name no classes: all objects are {LABEL!r}'])


def _objects(picture: Path, masks: Path, alone: bool) -> Iterator[np.ndarray]:
    """Bool array[h, w] of every object of a picture."""
    single = masks / f'{picture.stem}.png'
    folder = masks / picture.stem
    if single.is_file():
        numbers = _numbers(single)
        yield from (numbers == value for value in np.unique(numbers) if value)
    elif folder.is_dir():
        yield from (_numbers(path) > 0 for path in sorted(folder.glob('*.png')))
    elif alone:
        yield from (_numbers(path) > 0 for path in sorted(masks.glob('*.png')))
    else:
        raise ValueError(
            f'{picture} has no mask: neither {single} nor a folder {folder} with a PNG an object'
        )


def _numbers(path: Path) -> np.ndarray:
    """Values of a grey or palette PNG; colours count as numbers."""
    with Image.open(path) as picture:
        if picture.mode in ('1', 'L', 'P', 'I', 'I;16'):
            return np.array(picture).astype(np.int64)
        return packed_colours(picture)


def packed_colours(picture: Image.Image) -> np.ndarray:
    """One number 0xRRGGBB a pixel: int64 array[h, w]."""
    rgb = np.array(picture.convert('RGB')).astype(np.int64)
    return (rgb[..., 0] << 16) | (rgb[..., 1] << 8) | rgb[..., 2]


def rle_of(inside: np.ndarray) -> dict:
    """Bool array[h, w] -> COCO RLE with its counts as text."""
    rle = encode(inside[None])[0]
    return {'size': list(inside.shape), 'counts': rle['counts'].decode('ascii')}
