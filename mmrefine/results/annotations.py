"""Find the faults of a COCO or LVIS annotation file, for training and for scoring.

One pass over the file yields every fault. ``GroundTruth`` raises the first one that spoils scores,
``mmrefine.datasets.annotation_check`` lists all that matter to training.
"""

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple

from .fields import BoxError, read_box


class Kind(NamedTuple):
    """A kind of fault.

    Attributes:
        text: What is wrong with all of its annotations, and what to do.
        fatal: Training would go wrong; otherwise MMDetection leaves these annotations out, in
            training but not always in evaluation.
        unscorable: Scores cannot be computed, or would be wrong.
    """

    text: str
    fatal: bool
    unscorable: bool


_CATEGORY_TWICE = 'category ids or names that occur twice'
_FILE = 'images without file_name, width and height'
_BOX = 'annotations without a box [x, y, width, height] of finite numbers'
_AREA = 'annotations without an area that is a finite number: add the number of mask pixels'
_FLAT = (
    'masks that are neither run lengths nor a list of polygons, each one flat list '
    '[x1, y1, x2, y2, ...] of finite numbers'
)
KINDS = {
    'category id twice': Kind(_CATEGORY_TWICE, fatal=True, unscorable=True),
    'category name twice': Kind(_CATEGORY_TWICE, fatal=True, unscorable=False),
    'image twice': Kind('image ids that occur twice', fatal=True, unscorable=True),
    'id twice': Kind('annotation ids that occur twice, or no id', fatal=True, unscorable=False),
    'no object': Kind('annotations without image_id and category_id', fatal=True, unscorable=True),
    'image': Kind('annotations of images that the file does not list', True, unscorable=True),
    'category': Kind(
        'annotations whose category_id the file does not list', fatal=True, unscorable=True
    ),
    'no box': Kind(_BOX, fatal=True, unscorable=False),
    'box': Kind(_BOX, fatal=True, unscorable=True),
    'rle': Kind(
        'run lengths of another size than the image, or without counts and size', True, False
    ),
    'no area': Kind(_AREA, fatal=True, unscorable=False),
    'area': Kind(_AREA, fatal=True, unscorable=True),
    'flat': Kind(_FLAT, fatal=True, unscorable=False),
    'size': Kind(_FILE, fatal=True, unscorable=True),
    'file': Kind(_FILE, fatal=True, unscorable=False),
    'no mask': Kind('annotations without a mask', fatal=False, unscorable=False),
    'inverted box': Kind('boxes with a negative width or height', False, unscorable=True),
    'empty box': Kind(
        'boxes less than a pixel wide or high, or masks without area', False, unscorable=False
    ),
    'outside': Kind('boxes that lie outside their image', fatal=False, unscorable=False),
    'polygon': Kind(
        'polygons of fewer than 3 points, or an odd number of coordinates', False, False
    ),
}


class Fault(NamedTuple):
    """A fault of one record.

    Attributes:
        kind: Key of ``KINDS``.
        where: Id of the annotation, image or category, or a name.
        sentence: Position, value and remedy.
    """

    kind: str
    where: Any
    sentence: str


def require_lists(data: Any, name: str, keys: Sequence[str]) -> None:
    """Check the outermost level of an annotation file.

    Raises:
        ValueError: It is no object, or lacks one of these lists.
    """
    if not isinstance(data, Mapping):
        raise ValueError(f'{name} holds a {type(data).__name__}: expected a COCO annotation file')
    for key in keys:
        if key not in data:
            raise ValueError(f'{name} has no "{key}": expected a COCO annotation file')
        if not isinstance(data[key], (list, tuple)):
            raise ValueError(f'{name}: "{key}" is a {type(data[key]).__name__}, expected a list')


def find_faults(data: Mapping) -> Iterator[Fault]:
    """Yield the faults of a file that has its lists; RLE strings are not decoded.

    Args:
        data: ``dict(images=..., annotations=..., categories=...)``; annotations may be missing.
    """
    yield from _repeated_ids('images', data['images'], 'image twice')
    yield from _repeated_ids('categories', data['categories'], 'category id twice')
    yield from _repeated_names(data['categories'])
    images = {}
    for i, image in enumerate(data['images']):
        if isinstance(image, Mapping) and 'id' in image:
            images[image['id']] = image
            yield from _image_faults(f'images[{i}] (id {image["id"]})', image)
    categories = {c['id'] for c in data['categories'] if isinstance(c, Mapping) and 'id' in c}
    ids: set[Any] = set()
    for i, annotation in enumerate(data.get('annotations') or ()):
        label = f'annotations[{i}]'
        if not isinstance(annotation, Mapping):
            yield Fault(
                'no object', None, f'{label} must be an object with image_id and category_id'
            )
            continue
        where = annotation.get('id')
        if where is None or where in ids:
            yield Fault('id twice', where, f'{label} has the id {where!r}, none or not the first')
        ids.add(where)
        for kind, sentence in _annotation_faults(annotation, images, categories):
            yield Fault(kind, where, f'{label} {sentence}')


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, Real) and -math.inf < float(value) < math.inf


def _repeated_ids(key: str, records: Sequence, kind: str) -> Iterator[Fault]:
    seen: set[Any] = set()
    for i, record in enumerate(records):
        if not isinstance(record, Mapping) or record.get('id') is None:
            yield Fault(kind, None, f'{key}[{i}] has no id')
        elif record['id'] in seen:
            yield Fault(
                kind, record['id'], f'{key}[{i}] has the id {record["id"]}, which occurs twice'
            )
        else:
            seen.add(record['id'])


def _repeated_names(categories: Sequence) -> Iterator[Fault]:
    seen: set[Any] = set()
    for i, category in enumerate(categories):
        name = category.get('name') if isinstance(category, Mapping) else None
        if name is None or name in seen:
            sentence = f'categories[{i}] has the name {name!r}, none or not the first'
            yield Fault('category name twice', name, sentence)
        seen.add(name)


def _image_faults(label: str, image: Mapping) -> Iterator[Fault]:
    if not all(is_number(image.get(key)) and image[key] > 0 for key in ('width', 'height')):
        yield Fault('size', image['id'], f'{label} has no width and height')
    elif not isinstance(image.get('file_name'), str) or not image['file_name']:
        yield Fault('file', image['id'], f'{label} has no file_name')


def _annotation_faults(
    annotation: Mapping, images: Mapping, categories: set
) -> Iterator[tuple[str, str]]:
    """Yield kind and sentence of the faults of one annotation."""
    if 'image_id' not in annotation or 'category_id' not in annotation:
        yield 'no object', 'must be an object with image_id and category_id'
    image_id, category = annotation.get('image_id'), annotation.get('category_id')
    image = images.get(image_id) if isinstance(image_id, Hashable) else None
    if image is None:
        yield 'image', f'belongs to image {image_id!r}, which is not listed'
    if not isinstance(category, Hashable) or category not in categories:
        yield 'category', f'has the category {category!r}, which is not listed'
    if image is None:
        return
    sides = image.get('width'), image.get('height')
    width, height = (side if is_number(side) else 0 for side in sides)
    area = annotation.get('area')
    yield from _box_faults(annotation.get('bbox'), area, width, height)
    if area is None:
        yield 'no area', 'has no area'
    elif not is_number(area):
        yield 'area', f'has the area {area!r}: expected a finite number'
    kind = _mask_fault(annotation.get('segmentation'), [height, width])
    if kind:
        yield kind, f'has a segmentation of the kind: {KINDS[kind].text}'


def _box_faults(box: Any, area: Any, width: float, height: float) -> Iterator[tuple[str, str]]:
    if box is None:
        yield 'no box', 'has no bbox'
        return
    try:
        x, y, w, h = read_box(box)
    except BoxError as error:
        remedy = '; leave "bbox" out and it is made from the segmentation'
        yield ('inverted box' if error.kind == 'inverted' else 'box'), f'{error}{remedy}'
        return
    if w < 1 or h < 1 or (is_number(area) and area <= 0):
        yield 'empty box', f'has the bbox {box} and the area {area}'
    elif min(x + w, width) <= max(x, 0) or min(y + h, height) <= max(y, 0):
        yield 'outside', f'has the bbox {box}, which lies outside {width} x {height} pixels'


def _mask_fault(segmentation: Any, size: list) -> str | None:
    """Kind of the fault of a segmentation; ``size`` is [h, w]."""
    if not segmentation:
        return 'no mask'
    if isinstance(segmentation, Mapping):
        whole = segmentation.get('counts') and segmentation.get('size') == size
        return None if whole else 'rle'
    if not isinstance(segmentation, (list, tuple)) or not all(map(_is_flat, segmentation)):
        return 'flat'
    whole = all(len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in segmentation)
    return None if whole else 'polygon'


def _is_flat(polygon: Any) -> bool:
    # COCO holds tens of millions of coordinates: no Python step for each of them.
    if not isinstance(polygon, (list, tuple)) or not set(map(type, polygon)) <= {int, float}:
        return False
    return abs(sum(polygon)) < math.inf
