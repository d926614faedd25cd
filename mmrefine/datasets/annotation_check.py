"""List what is wrong with a COCO-format annotation file before training fails on it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from mmrefine.results.annotations import KINDS, find_faults, require_lists
from mmrefine.results.json_files import load_json

SHOWN = 5  # ids listed with a problem


@dataclass(frozen=True)
class Problem:
    """One kind of fault.

    Args:
        text: What is wrong and what to do.
        ids: Where: ids of annotations, images or categories, or class names.
        fatal: Results would be wrong. Otherwise MMDetection leaves these annotations out, in
            training but not always in evaluation.
    """

    text: str
    ids: tuple[Any, ...]
    fatal: bool

    def __str__(self) -> str:
        more = ', ...' if len(self.ids) > SHOWN else ''
        shown = ', '.join(map(str, self.ids[:SHOWN])) + more
        return f'{"error" if self.fatal else "warning"}: {self.text} ({len(self.ids)}: {shown})'


def read_annotations(path: str | Path) -> dict[str, Any]:
    """Read a COCO-format file.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is no json, or lacks images, annotations or categories.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'no annotation file {path}: check data_root and ann_file')
    content = load_json(path)
    require_lists(content, str(path), ['images', 'annotations', 'categories'])
    return content


def check_annotations(content: Mapping[str, Any], classes: Sequence[str] = ()) -> list[Problem]:
    """List the problems of a file, fatal ones first.

    Args:
        content: What ``read_annotations`` returns.
        classes: Class names of the config, if they are known.
    """
    names = [category.get('name') for category in content['categories']]
    absent = tuple(name for name in classes if name not in names)
    text = 'classes of the config that the file does not list: labels would shift'
    problems = [Problem(text, absent, fatal=True)] if absent else []
    # Kinds with one text are one problem; a record with two of them is named once.
    found: dict[tuple[str, bool], dict[Any, None]] = defaultdict(dict)
    for fault in find_faults(content):
        kind = KINDS[fault.kind]
        found[kind.text, kind.fatal][fault.where] = None
    problems += [Problem(text, tuple(ids), fatal) for (text, fatal), ids in found.items()]
    return sorted(problems, key=lambda problem: not problem.fatal)


def check_images(content: Mapping[str, Any], folder: Path) -> list[Problem]:
    """Open every picture and compare its size with the file's.

    Images without name or size, which ``check_annotations`` reports, are left out.
    """
    unreadable, resized = [], []
    for image in content['images']:
        if not all(image.get(key) for key in ('file_name', 'width', 'height')):
            continue
        # As LoadImageFromFile reads: turned upright where a camera's EXIF orientation says so.
        picture = cv2.imread(str(folder / str(image['file_name'])), cv2.IMREAD_COLOR)
        if picture is None:
            unreadable.append(image['file_name'])
        elif picture.shape[:2] != (image['height'], image['width']):
            resized.append(image['file_name'])
    texts = (
        'pictures that cannot be read',
        'pictures of another size than the file says, turned upright by their EXIF orientation',
    )
    pairs = zip(texts, (unreadable, resized))
    return [Problem(text, tuple(names), fatal=True) for text, names in pairs if names]
