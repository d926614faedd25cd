"""What every reader gives: pictures, and objects with a label and a mask.

Units: coordinates are pixels of the picture, x to the right and y down; the corner of the first
pixel is (0, 0).
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

PICTURES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')
_EXIF_ORIENTATION = 0x0112
_TURNED = (5, 6, 7, 8)  # orientations that swap width and height
_SPLITS = ('train', 'val', 'test')
_SPLIT = re.compile(r'(?:(train|training)|(val|valid|validation|dev)|(test|testing))\d*')


@dataclass
class SourceObject:
    """One annotated object."""

    label: str  # name of its class
    # polygons ``[[x, y, x, y, ...], ...]``, or an RLE dict with ``size`` and ``counts``
    segmentation: list[list[float]] | dict[str, Any]
    crowd: bool = False  # whether it is a group, left out of training and matching


@dataclass
class SourceImage:
    """One picture."""

    path: Path
    width: int  # in pixels, upright as its EXIF orientation says
    height: int
    objects: list[SourceObject] = field(default_factory=list)
    split: str | None = None  # ``'train'``, ``'val'`` or ``'test'`` where the source says so


@dataclass
class Source:
    """What a reader found."""

    images: list[SourceImage]
    classes: list[str]  # names, in the order the source gives them; classes without objects too
    # what was left out or interpreted, one sentence each
    notes: list[str] = field(default_factory=list)


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height of a picture, upright by its EXIF orientation; reads the header only."""
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            turned = picture.getexif().get(_EXIF_ORIENTATION) in _TURNED
    except FileNotFoundError:
        raise ValueError(f'there is no picture {path}') from None
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise ValueError(f'{path} cannot be read as a picture: {error}') from None
    return (height, width) if turned else (width, height)


def pictures_below(folder: Path) -> list[Path]:
    """All pictures in a folder and its sub-folders, sorted."""
    return sorted(p for p in folder.rglob('*') if p.suffix.lower() in PICTURES and p.is_file())


def named_split(path: Path, source: Path) -> str | None:
    """The split that the folders between a source and a file, or the file's own name, speak of.

    ``valid/a.json`` and ``instances_val2017.json`` do; where the source itself lies says nothing.
    """
    inside = path.relative_to(source) if source.is_dir() else Path(path.name)
    for name in (*inside.parts[:-1][::-1], *re.split(r'[^A-Za-z0-9]', path.stem)):
        if found := _SPLIT.fullmatch(name.lower()):
            return next(split for split, word in zip(_SPLITS, found.groups()) if word)
    return None


def labels_in_order(images: Iterable[SourceImage]) -> list[str]:
    """Labels in use, sorted by name: for formats that do not list their classes."""
    return sorted({thing.label for image in images for thing in image.objects})


def counted(number: int, what: str, examples: Sequence[object]) -> str:
    """A note: how many, of what, and the first three."""
    shown = ', '.join(map(str, examples[:3])) + (', ...' if len(examples) > 3 else '')
    return f'{number} {what}: {shown}'
