"""What every reader gives: pictures, and objects with a label and a mask.

Units: coordinates are pixels of the picture, x to the right and y down; the corner of the first
pixel is (0, 0).
"""

import contextlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from PIL import Image, UnidentifiedImageError

PICTURES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')
_EXIF_ORIENTATION = 0x0112
_TIFF_WIDTH, _TIFF_HEIGHT = 0x0100, 0x0101
_TURNED = (5, 6, 7, 8)  # orientations that swap width and height
SPLITS = ('train', 'val', 'test')
_SPLIT = re.compile(r'(?:(train|training)|(val|valid|validation|dev)|(test|testing))\d*')


@dataclass
class SourceObject:
    """One annotated object."""

    label: str  # name of its class
    # polygons ``[[x, y, x, y, ...], ...]``, or an RLE dict with ``size`` and ``counts``
    segmentation: list[list[float]] | dict[str, Any]
    crowd: bool = False  # whether it is a group, left out of training and matching
    ignore: bool = False  # whether it is neither learned nor scored


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


@contextlib.contextmanager
def opened(file: Path | IO[bytes], name: str) -> Iterator[Image.Image]:
    """Open a picture of any size; a ValueError says that ``name`` cannot be read."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with Image.open(file) as picture:
            yield picture
    except FileNotFoundError:
        raise ValueError(f'there is no picture {name}') from None
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise ValueError(f'{name} cannot be read as a picture: {error}') from None
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height of a picture, upright by its EXIF orientation; reads the header only."""
    with opened(path, str(path)) as picture:
        exif = picture.getexif()
        # Pillow gives the size of a TIFF turned upright or not, as its version has it
        tiff = picture.format == 'TIFF'
        width, height = (exif[_TIFF_WIDTH], exif[_TIFF_HEIGHT]) if tiff else picture.size
    return (height, width) if exif.get(_EXIF_ORIENTATION) in _TURNED else (width, height)


def all_below(source: Path) -> list[Path]:
    """What lies in a folder and its sub-folders, sorted; nothing hidden, such as ``.vscode``, or
    ``._NAME``, which macOS puts beside NAME."""
    found = ((p, p.relative_to(source).parts) for p in source.rglob('*'))
    return sorted(p for p, parts in found if not any(part.startswith('.') for part in parts))


def files_below(source: Path, suffixes: Sequence[str]) -> list[Path]:
    """Files with one of these suffixes, in letters of any case: the source itself, or all that are
    below it and not hidden, sorted."""
    files = [source] if source.is_file() else all_below(source)
    return [p for p in files if p.suffix.lower() in suffixes and p.is_file()]


def text_of(path: Path) -> str:
    """Text in UTF-8, with or without a byte order mark; a ValueError says that it is another."""
    try:
        return path.read_text(encoding='utf-8-sig')
    except UnicodeDecodeError as error:
        raise ValueError(f'{path} is no text in UTF-8: {error}; save it as UTF-8') from None


def pictures_below(folder: Path) -> list[Path]:
    """All pictures in a folder and its sub-folders, sorted."""
    return files_below(folder, PICTURES)


def class_name(value: Any, place: object) -> str:
    """A label as text; a ValueError says that it is none."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)) or value == '':
        raise ValueError(f'{place} has the label {value!r}: write the name of its class, as text')
    return str(value)


def class_names(values: Sequence[Any], path: Path) -> list[str]:
    """Names of the classes a file lists; a ValueError says that one is none or occurs twice."""
    names = [class_name(value, path) for value in values]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise ValueError(
                f'{path} has two classes of the name {name!r}: names decide, so rename one, or '
                'merge the two'
            )
    return names


def claim(owners: dict[Path, Path], file: Path, picture: Path) -> None:
    """Note whose annotations a file holds; a ValueError says that two pictures share it."""
    if owners.setdefault(file, picture) != picture:
        raise ValueError(
            f'{file} belongs to two pictures, {owners[file]} and {picture}: give them different '
            'names, and each its own annotations'
        )


@contextlib.contextmanager
def naming(place: str, kind: str = 'its format') -> Iterator[None]:
    """Name the place in errors about content that is not as its format has it."""
    try:
        yield
    except ValueError as error:
        if place in str(error):
            raise
        raise ValueError(f'{place}: {error}') from error
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(f'{place} is not as {kind} has it: {error!r}') from error


def named_split(path: Path, source: Path) -> str | None:
    """The split that the folders between a source and a file, or the file's own name, speak of.

    ``valid/a.json`` and ``instances_val2017.json`` do; where the source itself lies says nothing.
    """
    inside = path.relative_to(source) if source.is_dir() else Path(path.name)
    for name in (*inside.parts[:-1][::-1], *re.split(r'[^A-Za-z0-9]', path.stem)):
        if found := _SPLIT.fullmatch(name.lower()):
            return next(split for split, word in zip(SPLITS, found.groups()) if word)
    return None


def labels_in_order(images: Iterable[SourceImage]) -> list[str]:
    """Labels in use, sorted by name: for formats that do not list their classes."""
    return sorted({thing.label for image in images for thing in image.objects})


def counted(number: int, what: str, examples: Sequence[object]) -> str:
    """A note: how many, of what, and the first three."""
    shown = ', '.join(map(str, examples[:3])) + (', ...' if len(examples) > 3 else '')
    return f'{number} {what}: {shown}'
