"""Pascal VOC: pictures with two PNGs each, one of object numbers and one of classes."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from .png_masks import packed_colours, rle_of
from .records import (
    PICTURES,
    SPLITS,
    Source,
    SourceImage,
    SourceObject,
    all_below,
    class_names,
    files_below,
    named_split,
    naming,
    opened,
    text_of,
)

BORDER = 255
CLASSES = ['aeroplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus', 'car', 'cat', 'chair', 'cow']
CLASSES += ['diningtable', 'dog', 'horse', 'motorbike', 'person', 'pottedplant', 'sheep', 'sofa']
CLASSES += ['train', 'tvmonitor']


def find(source: Path) -> list[Path]:
    """The folders ``SegmentationObject`` of a source."""
    if not source.is_dir():
        return []
    folders = [source, *all_below(source)]
    found = [f for f in folders if (f / 'SegmentationObject').is_dir()]
    return [f for f in found if (f / 'SegmentationClass').is_dir() and (f / 'JPEGImages').is_dir()]


def read(source: Path, roots: list[Path]) -> Source:
    """Read all pictures that have an object map; ``ImageSets/Segmentation`` tells the split, or
    the folders a source has several sets in.

    Classes are named by ``labelmap.txt`` (CVAT: ``name:r,g,b::``), else they are VOC's twenty.
    """
    images, names = [], {}
    notes = ['border pixels (255) belong to no object']
    for root in roots:
        colours, classes = _label_map(root)
        if classes is CLASSES:
            text = "no labelmap.txt: class numbers are those of Pascal VOC's twenty classes"
            notes.append(f'{root}: {text}')
        images += _images(root, source, colours, classes)
        names |= dict.fromkeys(classes)
    return Source(images, list(names), notes)


def _images(
    root: Path, source: Path, colours: Mapping[tuple[int, ...], int], classes: list[str]
) -> Iterator[SourceImage]:
    splits = _splits(root)
    for path in files_below(root / 'SegmentationObject', ('.png',)):
        picture = next(
            (p for s in PICTURES if (p := root / 'JPEGImages' / f'{path.stem}{s}').is_file()), None
        )
        if picture is None:
            raise ValueError(f'{path} belongs to no picture in {root / "JPEGImages"}')
        numbers = _values(path)
        kinds = _values(root / 'SegmentationClass' / path.name, colours)
        if numbers.shape != kinds.shape:
            raise ValueError(f'{path.name}: object map {numbers.shape}, class map {kinds.shape}')
        height, width = numbers.shape
        split = splits.get(path.stem) or named_split(picture.parent, source)
        image = SourceImage(picture, width, height, split=split)
        for number in np.unique(numbers):
            if number in (0, BORDER):
                continue
            inside = numbers == number
            kind = np.bincount(kinds[inside].ravel()).argmax()
            if not 1 <= kind <= len(classes):
                raise ValueError(f'{path.name}: object {number} has the class {kind}, not named')
            image.objects.append(SourceObject(classes[kind - 1], rle_of(inside)))
        yield image


def _label_map(root: Path) -> tuple[dict[tuple[int, ...], int], list[str]]:
    """Colour -> class number, and the names of the classes from 1 on."""
    path = root / 'labelmap.txt'
    if not path.is_file():
        _require_voc_names(root)
        return {}, CLASSES
    lines = [line for line in text_of(path).splitlines() if line.strip() and line[0] != '#']
    with naming(str(path)):
        fields = [line.split(':') for line in lines]
        rows = [(name, tuple(int(v) for v in colour.split(','))) for name, colour, *_ in fields]
    names = class_names([name for name, _ in rows if name != 'background'], path)
    owners: dict[tuple[int, ...], str] = {}
    for name, colour in rows:
        if (other := owners.setdefault(colour, name)) != name:
            raise ValueError(
                f'{path} has the colour {",".join(map(str, colour))} for {other} and for {name}, '
                'which cannot be told apart: draw one of them in another colour'
            )
    numbers = {name: i + 1 for i, name in enumerate(names)}
    return {colour: numbers.get(name, 0) for name, colour in rows}, names


def _require_voc_names(root: Path) -> None:
    """Refuse boxes of other classes than VOC's: then its numbers stand for others, too."""
    for file in sorted((root / 'Annotations').glob('*.xml')):
        text = file.read_text(encoding='utf-8', errors='replace')  # all of VOC's names are ASCII
        for name in re.findall(r'<object>\s*<name>\s*(.*?)\s*</name>', text, re.S):
            if name not in CLASSES:
                raise ValueError(
                    f'{file} has the class {name!r}, which is none of Pascal VOC, and there is no '
                    f'{root / "labelmap.txt"}: write one with a line NAME:R,G,B:: for every class, '
                    'background:0,0,0:: first'
                )


def _values(path: Path, colours: Mapping[tuple[int, ...], int] | None = None) -> np.ndarray:
    """Numbers of a palette or grey PNG; colours become the classes of the label map."""
    if not path.is_file():
        raise ValueError(f'there is no {path}')
    with opened(path, str(path)) as picture:
        if picture.mode in ('P', 'L', 'I', 'I;16'):
            values = np.array(picture).astype(np.int64)
            if not colours or picture.mode != 'P':
                return values
        packed = packed_colours(picture, path)
    if colours is None:  # object numbers: any colour is one, none of them the border's
        return np.where(packed, packed + BORDER, 0)
    known = {(r << 16) | (g << 8) | b: number for (r, g, b), number in colours.items()}
    values = np.zeros(packed.shape, np.int64)
    for colour in np.unique(packed).tolist():
        if colour not in known:
            raise ValueError(f'{path} has the colour #{colour:06x}, which labelmap.txt lacks')
        values[packed == colour] = known[colour]
    return values


def _splits(root: Path) -> dict[str, str]:
    """Name of a picture -> the one list that it is in."""
    found: dict[str, str] = {}
    for split in SPLITS:
        path = root / 'ImageSets' / 'Segmentation' / f'{split}.txt'
        for line in text_of(path).splitlines() if path.is_file() else ():
            name = line.strip()
            if name and (other := found.setdefault(name, split)) != split:
                raise ValueError(
                    f'{path} has {name}, which is in {other}.txt, too: remove one of the two lines'
                )
    return found
