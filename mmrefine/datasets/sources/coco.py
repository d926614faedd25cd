"""COCO json as Roboflow, CVAT, Label Studio and others export it."""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmrefine.results.annotations import KINDS, find_faults
from mmrefine.results.image_files import image_file
from mmrefine.results.json_files import load_json

from .records import (
    Source,
    SourceImage,
    SourceObject,
    counted,
    files_below,
    named_split,
    pictures_below,
)

# Faults that do not matter here: ids, boxes and areas are made anew, and crowds checked afterwards.
MADE_ANEW = ('id', 'no box', 'box', 'corners', 'no area', 'area', 'crowds')


def find(source: Path) -> list[Path]:
    """COCO files of a source: the file itself, or those in a folder."""
    return fitting_json(source, _is_coco, (b'"images"', b'"annotations"'))


def fitting_json(source: Path, fits: Callable[[Any], bool], words: Sequence[bytes]) -> list[Path]:
    """Json files of a source whose content fits; what cannot be parsed is passed over, unless it is
    the source or holds one of the words."""
    found = []
    for path in files_below(source, ('.json',)):
        try:
            content = load(path)
        except ValueError:
            if path == source or any(word in path.read_bytes() for word in words):
                raise
            continue
        if fits(content):
            found.append(path)
    return found


def _is_coco(content: Any) -> bool:
    return isinstance(content, dict) and all(
        isinstance(content.get(key), list) for key in ('images', 'annotations', 'categories')
    )


def load(path: Path) -> Any:
    """Parse a json file in any form of Unicode; a ValueError says how it is damaged."""
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return load_json(path)  # which names the damage


def _require_sound(content: Mapping, path: Path) -> None:
    """Raise ValueError at a fault that would be lost, since another file is made of this one."""
    faults = (f for f in find_faults(content) if KINDS[f.kind].fatal and f.kind not in MADE_ANEW)
    if fault := next(faults, None):
        raise ValueError(
            f'{path}: {fault.sentence} (tools/check_annotations.py lists all such faults)'
        )


def read(source: Path, files: list[Path]) -> Source:
    """Read one or several COCO files; the names of file and folder tell the split.

    Categories that no annotation uses are left out with a note: exports often list an umbrella
    category (Roboflow) or unused ones.
    """
    folder = source if source.is_dir() else source.parent
    index: dict[str, list[Path]] = defaultdict(list)
    for picture in pictures_below(folder):
        index[picture.name].append(picture)
    images, used, unused, maskless = [], {}, {}, []
    for path in files:
        content = load(path)
        _require_sound(content, path)
        split = named_split(path, source)
        names = {c['id']: c['name'] for c in content['categories']}
        annotations = defaultdict(list)
        for annotation in content['annotations']:
            annotations[annotation['image_id']].append(annotation)
        for entry in content['images']:
            place = _place(image_file(entry), path, index, source)
            image = SourceImage(place, int(entry['width']), int(entry['height']), split=split)
            for annotation in annotations[entry['id']]:
                if not annotation.get('segmentation'):
                    maskless.append(annotation.get('id'))
                    continue
                label = names[annotation['category_id']]
                used[label] = None
                flags = [bool(annotation.get(key)) for key in ('iscrowd', 'ignore')]
                image.objects.append(SourceObject(label, annotation['segmentation'], *flags))
            images.append(image)
        unused |= dict.fromkeys(names.values())
    classes = [name for name in unused if name in used]
    notes = [f'read as COCO: {", ".join(str(path) for path in files)}']
    if left := [name for name in unused if name not in used]:
        notes.append(counted(len(left), 'categories without any object are left out', left))
    if maskless:
        text = 'annotations have no segmentation and are left out'
        notes.append(counted(len(maskless), text, maskless))
    return Source(images, classes, notes)


def _place(name: str, path: Path, index: dict[str, list[Path]], source: Path) -> Path:
    """The picture of an entry: beside the file, in its usual folders, or the one of its name, of
    several the one in the folder that the entry, or the split of the file, speaks of."""
    tail = Path(name.replace('\\', '/'))
    for base in (path.parent, path.parent / 'images', path.parent.parent / 'images'):
        if (base / tail).is_file():
            return base / tail
    found = index.get(tail.name, [])
    ends = [p for p in found if p.parts[-len(tail.parts) :] == tail.parts]
    found = ends if len(found) > 1 and ends else found
    if len(found) > 1 and (split := named_split(path, source)):
        found = [p for p in found if named_split(p, source) == split] or found
    if len(found) != 1:
        what = 'is not below the source' if not found else f'is there {len(found)} times'
        raise ValueError(
            f'{path.name} names the picture {name!r}, which {what}: put the pictures beside the '
            'file, under the names it gives'
        )
    return found[0]
