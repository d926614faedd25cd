"""YOLO segmentation: ``data.yaml``, pictures, and one text file of outlines for each."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from .records import (
    SPLITS,
    Source,
    SourceImage,
    SourceObject,
    claim,
    class_names,
    counted,
    picture_size,
    pictures_below,
    text_of,
)


def find(source: Path) -> list[Path]:
    """The ``data.yaml`` of a source."""
    files = [source] if source.is_file() else sorted(source.glob('*.y*ml'))
    files = [path for path in files if path.suffix in ('.yaml', '.yml')]
    return [path for path in files if _is_data(_load(path, strict=path == source))]


def _load(path: Path, strict: bool = True) -> Any:
    """Parse a yaml; unless ``strict``, None for one that cannot be and has no word of a set."""
    content = path.read_bytes()
    try:
        return yaml.safe_load(content)
    except yaml.YAMLError as error:
        if not strict and b'train:' not in content:
            return None
        raise ValueError(f'{path} is no yaml: {" ".join(str(error).split())}') from None


def _is_data(content: Any) -> bool:
    return isinstance(content, Mapping) and 'names' in content and 'train' in content


def read(source: Path, files: list[Path]) -> Source:
    """Read the pictures of all splits; coordinates are shares of the picture's sides."""
    if len(files) > 1:
        raise ValueError(
            f'{source} holds several sets ({", ".join(map(str, files))}): name one as the source'
        )
    path = files[0]
    content = _load(path)
    if 'kpt_shape' in content:
        raise ValueError(
            f'{path} describes points of poses (kpt_shape): masks are learnt from outlines; export '
            'the data set for segmentation'
        )
    names = _names(content, path)
    images, unlabelled = [], []
    owners: dict[Path, Path] = {}
    splits: dict[Path, str] = {}
    for split in SPLITS:
        for picture in _pictures(content, content.get(split), path):
            if (other := splits.setdefault(picture.resolve(), split)) != split:
                raise ValueError(
                    f'{path} has {picture} in {other} and in {split}: remove one of the two '
                    'entries; where only train is left, prepare_data.py divides it'
                )
            width, height = picture_size(picture)
            image = SourceImage(picture, width, height, split=split)
            label_file = _label_file(picture)
            if label_file.is_file():
                claim(owners, label_file, picture)
                image.objects = list(_objects(label_file, names, (width, height)))
            else:
                unlabelled.append(picture.name)
            images.append(image)
    notes = []
    if unlabelled:
        text = 'pictures have no label file and count as pictures without objects'
        notes.append(counted(len(unlabelled), text, unlabelled))
    texts = {p for folder in {p.parent for p in owners} for p in folder.glob('*.txt')}
    if left := sorted(texts - owners.keys()):
        text = 'text files beside the labels belong to no picture and are left out'
        notes.append(counted(len(left), text, left))
    return Source(images, [names[key] for key in sorted(names)], notes)


def _names(content: Mapping, path: Path) -> dict[int, str]:
    """Class number -> name."""
    names, count = content['names'], content.get('nc')
    names = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(names, dict) or not all(isinstance(key, int) for key in names):
        raise ValueError(
            f'{path} has the names {names!r}: expected a list, or the name of every class number'
        )
    if count not in (None, len(names)):
        raise ValueError(f'{path} has {count} classes (nc), but {len(names)} names')
    return dict(zip(names, class_names(list(names.values()), path)))


def _pictures(content: Mapping, entry: Any, path: Path) -> Iterator[Path]:
    """Pictures of a split: of folders, or listed in a text file; a list of either."""
    if not entry:
        return
    for one in entry if isinstance(entry, list) else [entry]:
        base = path.parent / str(content.get('path') or '')
        # exports write paths relative to the yaml, to its folder's parent, or to `path`
        tail = Path(one)
        below = [part for part in tail.parts if part != '..']
        tries = [base / tail, path.parent / tail, path.parent.joinpath(*below)]
        place = next((p for p in tries if p.exists()), None)
        if place is None:
            raise ValueError(f'{path} names {one!r}, which is not there (tried {tries[0]})')
        if place.is_dir():
            yield from pictures_below(place)
        else:
            lines = text_of(place).split('\n')
            yield from (place.parent / line.strip() for line in lines if line.strip())


def _label_file(picture: Path) -> Path:
    """The last folder called ``images`` becomes ``labels``."""
    parts = list(picture.parts)
    for i in range(len(parts) - 2, -1, -1):
        if parts[i] == 'images':
            parts[i] = 'labels'
            break
    return Path(*parts).with_suffix('.txt')


def _objects(path: Path, names: dict, size: tuple[int, int]) -> Iterator[SourceObject]:
    for number, line in enumerate(text_of(path).splitlines(), 1):
        fields = line.split()
        if not fields:
            continue
        label = f'{path}, line {number}'
        try:
            index, *values = [float(value) for value in fields]
        except ValueError:
            raise ValueError(f'{label} is no list of numbers: {line[:60]!r}') from None
        if index not in names:
            raise ValueError(f'{label} has the class {index:g}, data.yaml names {len(names)}')
        if len(values) == 4:
            raise ValueError(
                f'{label} is a box: masks are learnt from outlines; export the data set for '
                'segmentation'
            )
        if len(values) < 6 or len(values) % 2:
            raise ValueError(f'{label} has {len(values)} coordinates, an outline has 6 or more')
        outline = [value * size[i % 2] for i, value in enumerate(values)]
        yield SourceObject(names[int(index)], [outline])
