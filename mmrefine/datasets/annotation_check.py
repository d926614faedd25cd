"""Find what is wrong with a COCO-format annotation file before training stumbles over it."""

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

Record = dict[str, Any]


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
        shown = ', '.join(map(str, self.ids[:5])) + (', ...' if len(self.ids) > 5 else '')
        return f'{"error" if self.fatal else "warning"}: {self.text} ({len(self.ids)}: {shown})'


# Fault -> (text, fatal).
_FAULTS: dict[str, tuple[str, bool]] = {
    'class': ('classes of the config that the file does not list: labels would shift', True),
    'category twice': ('category ids or names that occur twice', True),
    'image twice': ('image ids that occur twice', True),
    'id twice': ('annotation ids that occur twice, or no id', True),
    'image': ('annotations of images that the file does not list', True),
    'category': ('annotations whose category_id the file does not list', True),
    'fields': ('annotations without a box [x, y, width, height] of finite numbers', True),
    'rle': ('run lengths of another size than the image, or without counts and size', True),
    'mask': ('annotations without a mask', False),
    'area': (
        'annotations without an area that is a finite number: add the number of mask pixels',
        True,
    ),
    'empty box': ('boxes less than a pixel wide or high, or masks without area', False),
    'outside': ('boxes that lie outside their image', False),
    'polygon': ('polygons of fewer than 3 points, or an odd number of coordinates', False),
    'points': (
        'masks that are neither run lengths nor a list of polygons, each one flat list '
        '[x1, y1, x2, y2, ...] of finite numbers',
        True,
    ),
    'file': ('images without file_name, width and height', True),
}


def read_annotations(path: str | Path) -> Record:
    """Read a COCO-format file.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is not JSON, or lacks images, annotations or categories.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'no annotation file {path}: check data_root and ann_file')
    try:
        content = json.loads(path.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f'{path} is not valid JSON ({error}): was its download or copy cut off?'
        ) from error
    for key in ('images', 'annotations', 'categories'):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise ValueError(f'{path} has no list {key!r}: it is not a COCO instance file')
    return content


def check_annotations(content: Record, classes: Sequence[str] = ()) -> list[Problem]:
    """List the problems of a file, fatal ones first.

    Args:
        content: What :func:`read_annotations` returns.
        classes: Class names of the config, if they are known.
    """
    found: dict[str, list[Any]] = defaultdict(list)
    images = {image['id']: image for image in content['images'] if 'id' in image}
    categories = {category.get('id') for category in content['categories']}
    names = [category.get('name') for category in content['categories']]
    found['class'] = [name for name in classes if name not in names]
    found['category twice'] = _repeated(names) or _repeated(
        [category.get('id') for category in content['categories']]
    )
    found['image twice'] = _repeated([image.get('id') for image in content['images']])
    found['id twice'] = _repeated([a.get('id') for a in content['annotations']])
    found['file'] = [image.get('id') for image in content['images'] if lacks_file(image)]
    for annotation in content['annotations']:
        image = images.get(annotation.get('image_id'))
        for fault in _faults(annotation, image, categories):
            found[fault].append(annotation.get('id'))
    problems = [
        Problem(text, tuple(found[fault]), fatal)
        for fault, (text, fatal) in _FAULTS.items()
        if found[fault]
    ]
    return sorted(problems, key=lambda problem: not problem.fatal)


def lacks_file(image: Record) -> bool:
    """Whether an entry of ``images`` does not say which picture it is, or of what size."""
    name = image.get('file_name')
    sized = all(_is_number(image.get(key)) and image[key] > 0 for key in ('width', 'height'))
    return not (isinstance(name, str) and name and sized)


def _faults(annotation: Record, image: Record | None, categories: set[Any]) -> Iterator[str]:
    """Name the faults of one annotation."""
    if annotation.get('category_id') not in categories:
        yield 'category'
    if image is None:
        yield 'image'
        return
    sides = image.get('width'), image.get('height')
    width, height = (side if _is_number(side) else 0 for side in sides)
    box, area = annotation.get('bbox'), annotation.get('area')
    if not _is_box(box):
        yield 'fields'
    elif box[2] < 1 or box[3] < 1 or (_is_number(area) and area <= 0):
        yield 'empty box'
    elif min(box[0] + box[2], width) <= max(box[0], 0) or (
        min(box[1] + box[3], height) <= max(box[1], 0)
    ):
        yield 'outside'
    if not _is_number(area):
        yield 'area'
    mask = annotation.get('segmentation')
    if not mask:
        yield 'mask'
    elif isinstance(mask, dict):
        if not mask.get('counts') or mask.get('size') != [height, width]:
            yield 'rle'
    elif not isinstance(mask, list) or not all(map(_is_flat, mask)):
        yield 'points'
    elif not all(len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in mask):
        yield 'polygon'


def _is_box(box: Any) -> TypeGuard[list[float]]:
    if not isinstance(box, list) or len(box) != 4:
        return False
    return all(map(_is_number, box))


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and abs(value) < math.inf


def _is_flat(polygon: Any) -> bool:
    # COCO holds tens of millions of coordinates: no Python step for each of them.
    if not isinstance(polygon, list) or not set(map(type, polygon)) <= {int, float}:
        return False
    return abs(sum(polygon)) < math.inf


def _repeated(values: Sequence[Any]) -> list[Any]:
    """List values that occur twice; None counts as one."""
    seen: set[Any] = set()
    again = []
    for value in values:
        if value in seen or value is None:
            again.append(value)
        seen.add(value)
    return again
