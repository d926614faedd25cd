"""Folders of PNG masks: one map of object numbers a picture, or one PNG an object.

images/a.jpg  masks/a.png            numbers: 0 is background, every other value an object
images/a.jpg  masks/a/1.png, ...     one PNG an object
a/images/a.png  a/masks/1.png, ...   the same, a folder a picture (2018 Data Science Bowl)

Masks of pictures in sub-folders lie in the same sub-folders, or without them under distinct names.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mmrefine.masks import encode

from .records import (
    PICTURES,
    Source,
    SourceImage,
    SourceObject,
    all_below,
    claim,
    counted,
    files_below,
    named_split,
    opened,
    picture_size,
    pictures_below,
)

MASKS = ('masks', 'mask', 'annotations', 'labels', 'instances')
IMAGES = ('images', 'image', 'imgs')
LABEL = 'object'


def find(source: Path) -> list[Path]:
    """Folders of pictures that have a folder of masks beside them."""
    if not source.is_dir():
        return []
    folders = (p for p in all_below(source) if p.is_dir() and p.name.lower() in IMAGES)
    return [folder for folder in folders if _mask_folders(folder)]


def _mask_folders(folder: Path) -> list[Path]:
    """Folders of masks beside a folder of pictures."""
    places = [folder.parent / name for name in MASKS]
    return [place for place in places if place.is_dir() and files_below(place, ('.png',))]


def read(source: Path, folders: list[Path]) -> Source:
    """Read all pictures; PNG masks carry no class names, so there is one class."""
    images, notes = [], [f'PNG masks name no classes: all objects are {LABEL!r}']
    owners: dict[Path, Path] = {}
    for folder in folders:
        masks, *others = _mask_folders(folder)
        if others:
            notes.append(counted(len(others), f'folders are left out beside {masks}', others))
        pictures, files = pictures_below(folder), _by_place(masks)
        for picture in pictures:
            width, height = picture_size(picture)
            split = named_split(picture.parent, source)
            image = SourceImage(picture, width, height, split=split)
            places = [masks / picture.relative_to(folder).with_suffix(''), masks / picture.stem]
            places += [masks] if len(pictures) == 1 else []
            place = next((p for p in places if p in files or p.is_dir()), None)
            if place is None:
                raise ValueError(
                    f'{picture} has no mask: neither {places[0]}.png nor a folder {places[0]} with '
                    'a PNG an object'
                )
            own = files.get(place, [])  # none in an empty folder
            for path in own:
                claim(owners, path, picture)
            for inside in _objects(own, place):
                if inside.shape != (height, width):
                    raise ValueError(
                        f'{picture.name} has {height} x {width} pixels (height x width), its mask '
                        f'{inside.shape[0]} x {inside.shape[1]}'
                    )
                if inside.any():
                    image.objects.append(SourceObject(LABEL, rle_of(inside)))
            images.append(image)
        if left := sorted({path for paths in files.values() for path in paths} - owners.keys()):
            text = 'masks belong to no picture and are left out'
            notes.append(counted(len(left), text, left))
    return Source(images, [LABEL], notes)


def _by_place(masks: Path) -> dict[Path, list[Path]]:
    """Folder, or file without its suffix -> masks there."""
    found = defaultdict(list)
    for path in files_below(masks, PICTURES):
        if path.suffix.lower() != '.png':
            raise ValueError(f'{path} lies among PNG masks: save it as PNG, or put it elsewhere')
        for place in (path.with_suffix(''), *path.parents):
            found[place].append(path)
    return dict(found)


def _objects(files: Sequence[Path], place: Path) -> Iterator[np.ndarray]:
    """Bool array[h, w] of every object of a picture."""
    if all(place in path.parents for path in files):
        yield from (_numbers(path) > 0 for path in files)
        return
    if len(files) > 1:
        raise ValueError(
            f'a picture has the masks {files[0]} and {files[1]}: keep one or the other'
        )
    numbers = _numbers(files[0])
    yield from (numbers == value for value in np.unique(numbers) if value)


def _numbers(path: Path) -> np.ndarray:
    """Values of a grey or palette PNG; colours count as numbers."""
    with opened(path, str(path)) as picture:
        if picture.mode in ('1', 'L', 'P', 'I', 'I;16'):
            return np.array(picture).astype(np.int64)
        return packed_colours(picture, path)


def packed_colours(picture: Image.Image, path: Path) -> np.ndarray:
    """One number 0xRRGGBB a pixel: int64 array[h, w]; what is transparent has to be 0."""
    rgba = np.array(picture.convert('RGBA')).astype(np.int64)
    packed = (rgba[..., 0] << 16) | (rgba[..., 1] << 8) | rgba[..., 2]
    clear = rgba[..., 3] == 0
    if clear.any() and (clear != (packed == 0)).any():
        raise ValueError(
            f'{path} shows one thing by its colours and another by its transparency: save it '
            'without transparency, the background black'
        )
    return packed


def rle_of(inside: np.ndarray) -> dict:
    """Bool array[h, w] -> COCO RLE with its counts as text."""
    rle = encode(inside[None])[0]
    return {'size': list(inside.shape), 'counts': rle['counts'].decode('ascii')}
