"""List what is wrong with a COCO-format annotation file before training fails on it."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmrefine.results.annotations import KINDS, find_faults, record_id, require_lists
from mmrefine.results.fields import is_number
from mmrefine.results.image_files import named_file, read_picture
from mmrefine.results.json_files import load_json

SHOWN = 5  # ids listed with a problem


@dataclass(frozen=True)
class Problem:
    """One kind of fault: what is wrong and what to do, and the annotations, images, categories or
    classes.

    If not ``fatal`` these are left out of training, but not always of evaluation.
    """

    text: str
    ids: tuple[Any, ...]
    fatal: bool

    def __str__(self) -> str:
        more = ', ...' if len(self.ids) > SHOWN else ''
        shown = ', '.join(map(str, self.ids[:SHOWN])) + more
        return f'{"error" if self.fatal else "warning"}: {self.text} ({len(self.ids)}: {shown})'


def read_annotations(path: str | Path, only_images: bool = False) -> dict[str, Any]:
    """Read a COCO-format file; errors say that it is missing, no json, or lacks one of the three
    lists, of which a file ``only_images`` are taken from need not have the annotations."""
    if not Path(path).is_file():
        raise FileNotFoundError(f'no annotation file {path}: check data_root and ann_file')
    content = load_json(path)
    if isinstance(content, Mapping) and 'videos' in content and 'images' not in content:
        raise ValueError(
            f"{path} lists videos but no images: it has YouTube-VIS's own layout. Convert it with "
            "MMDetection's tools/dataset_converters/youtubevis2coco.py"
        )
    require_lists(content, str(path), ['images', 'categories'])
    if not only_images or 'annotations' in content:
        require_lists(content, str(path), ['annotations'])
    return content


def check_annotations(content: Mapping[str, Any], classes: Sequence[str] = ()) -> list[Problem]:
    """List the problems of what ``read_annotations`` returns, fatal ones first.

    ``classes`` are the class names of the config, if they are known.
    """
    names = [c.get('name') for c in content['categories'] if isinstance(c, Mapping)]
    absent = tuple(name for name in classes if name not in names)
    listed = tuple(name for name in names if name in classes)
    problems = []
    if absent:
        text = 'classes of the config that the file does not list: labels would shift'
        problems.append(Problem(text, absent, fatal=True))
    elif classes and listed != tuple(classes):
        text = 'the file lists the classes of the config in another order, which decides the labels'
        remedy = f'{text}: write classes={listed[:SHOWN]}'
        problems.append(Problem(remedy, listed, fatal=True))
    # Kinds with one text are one problem; a record with two of them is named once.
    found: dict[tuple[str, bool], dict[Any, None]] = defaultdict(dict)
    for fault in find_faults(content, decode=True):
        kind = KINDS[fault.kind]
        found[kind.text, kind.fatal][fault.where] = None
    problems += [Problem(text, tuple(ids), fatal) for (text, fatal), ids in found.items()]
    return sorted(problems, key=lambda problem: not problem.fatal)


def check_identities(content: Mapping[str, Any]) -> list[Problem]:
    """List what is wrong with the identities of objects in videos.

    MMDetection takes the position of an annotation in its frame where there is no identity, or 0,
    and so learns that different objects are the same one. Images of no video need none.
    """
    images = (image for image in content['images'] if isinstance(image, Mapping))
    frames = {record_id(image) for image in images if 'video_id' in image}
    seen: set[tuple[Any, Any]] = set()
    wrong = []
    for annotation in content.get('annotations') or ():
        if not isinstance(annotation, Mapping) or annotation.get('iscrowd'):
            continue
        frame: Any = annotation.get('image_id')
        identity: Any = annotation.get('instance_id')
        if not isinstance(frame, Hashable) or frame not in frames:
            continue
        whole = is_number(identity) and identity >= 1 and identity % 1 == 0
        if not whole or (frame, identity) in seen:
            wrong.append(record_id(annotation))
        else:
            seen.add((frame, identity))
    text = (
        'objects of videos whose instance_id is no whole number from 1, or that of another object '
        'of the frame: number the objects of a video'
    )
    return [Problem(text, tuple(wrong), fatal=True)] if wrong else []


def check_images(content: Mapping[str, Any], folder: Path) -> list[Problem]:
    """Open every picture and compare its size with the file's.

    Images without name or size, which ``check_annotations`` reports, are left out.
    """
    if not folder.is_dir():
        return [Problem('there is no such folder of pictures', (folder,), fatal=True)]
    found: dict[str, list[Any]] = defaultdict(list)
    for image in content['images']:
        record = image if isinstance(image, Mapping) else {}
        name, sides = named_file(record), (record.get('height'), record.get('width'))
        if name is None or not all(sides):
            continue
        try:
            size = read_picture(folder / name).shape[:2]
        except (OSError, ValueError):
            found['pictures that cannot be read'].append(name)
            continue
        if size == sides[::-1] != sides:
            text = (
                'pictures whose width and height the file swaps, upright by their EXIF orientation'
            )
            found[text].append(name)
        elif size != sides:
            found['pictures of another size than the file says'].append(name)
    return [Problem(text, tuple(names), fatal=True) for text, names in found.items()]


def summary(content: Mapping[str, Any]) -> list[str]:
    """Lines that say what a file holds: objects of every class, and sizes of images and objects.

    Args:
        content: Without fatal problems.
    """
    objects = [a for a in content['annotations'] if not a.get('iscrowd')]
    crowds = len(content['annotations']) - len(objects)
    count = Counter(annotation['category_id'] for annotation in objects)
    rows = [
        (str(category['name']), f'{count[category["id"]]:,}')
        for category in sorted(content['categories'], key=lambda c: -count[c['id']])
    ]
    width = max((len(name) for name, _ in rows), default=0)
    lines = [f'{name:{width}} {number:>9} objects' for name, number in rows]
    unused = [name for name, number in rows if number == '0']
    if unused:
        lines.append(f'note: categories without any object: {", ".join(unused)}')
    for what, sides in (
        ('images', [(image['width'], image['height']) for image in content['images']]),
        ('objects', [a['bbox'][2:] for a in objects]),
    ):
        if sides:
            (w0, h0), (w1, h1) = np.min(sides, axis=0), np.max(sides, axis=0)
            lines.append(f'{what} of {w0:g} x {h0:g} to {w1:g} x {h1:g} pixels (width x height)')
    return [*lines, f'{crowds} crowds'] if crowds else lines
