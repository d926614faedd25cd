"""COCO json as Roboflow, CVAT, Label Studio and others export it."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from .records import Source, SourceImage, SourceObject, counted, named_split, pictures_below


def find(source: Path) -> list[Path]:
    """COCO files of a source: the file itself, or those in a folder."""
    candidates = [source] if source.is_file() else sorted(source.rglob('*.json'))
    return [path for path in candidates if path.suffix == '.json' and _is_coco(path)]


def _is_coco(path: Path) -> bool:
    content = load(path)
    return isinstance(content, dict) and all(
        isinstance(content.get(key), list) for key in ('images', 'annotations', 'categories')
    )


def load(path: Path) -> Any:
    """Parse a json file; None if it is none."""
    try:
        return json.loads(path.read_bytes().decode('utf-8-sig'))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        return None


def read(source: Path) -> Source:
    """Read one or several COCO files; the names of file and folder tell the split.

    Categories that no annotation uses are left out with a note: exports often list an umbrella
    category (Roboflow) or unused ones.
    """
    files = find(source)
    folder = source if source.is_dir() else source.parent
    index: dict[str, list[Path]] = defaultdict(list)
    for picture in pictures_below(folder):
        index[picture.name].append(picture)
    images, used, unused, maskless = [], {}, {}, []
    for path in files:
        content = load(path)
        split = named_split(path, source)
        names = {c['id']: str(c['name']) for c in content['categories']}
        annotations = defaultdict(list)
        for annotation in content['annotations']:
            annotations[annotation['image_id']].append(annotation)
        for entry in content['images']:
            place = _place(entry['file_name'], path, index)
            image = SourceImage(place, int(entry['width']), int(entry['height']), split=split)
            for annotation in annotations[entry['id']]:
                if not annotation.get('segmentation'):
                    maskless.append(annotation.get('id'))
                    continue
                label = names[annotation['category_id']]
                used[label] = None
                crowd = int(annotation.get('iscrowd') or 0) == 1
                image.objects.append(SourceObject(label, annotation['segmentation'], crowd))
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


def _place(name: str, path: Path, index: dict[str, list[Path]]) -> Path:
    """The picture of an entry: beside the file, in its usual folders, or the one of its name."""
    tail = Path(name.replace('\\', '/'))
    for base in (path.parent, path.parent / 'images', path.parent.parent / 'images'):
        if (base / tail).is_file():
            return base / tail
    found = index.get(tail.name, [])
    if len(found) != 1:
        what = 'is not below the source' if not found else f'is there {len(found)} times'
        raise ValueError(
            f'{path.name} names the picture {name!r}, which {what}: put the pictures beside the '
            'file, under the names it gives'
        )
    return found[0]
