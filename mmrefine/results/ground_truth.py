"""What a data set says is true: the checked contents of a COCO or LVIS file."""

import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from pycocotools import mask as coco_mask

from mmrefine.masks.run_lengths import misfits, to_counts

FREQUENCIES = ('r', 'c', 'f')
SHOWN = 5  # names listed in an error
Id: TypeAlias = Any  # whatever a file uses, as a rule int


@dataclass
class Federation:
    """LVIS: which categories were looked for in which image.

    Attributes:
        absent: Image id -> categories verified to be absent.
        unfinished: Image id -> categories of which not every object was annotated.
        frequency: Category id -> ``'r'``, ``'c'`` or ``'f'`` (rare, common, frequent).
    """

    absent: dict[Id, frozenset]
    unfinished: dict[Id, frozenset]
    frequency: dict[Id, str]


@dataclass
class GroundTruth:
    """Annotations to evaluate against.

    Attributes:
        sizes: Image id -> ``(h, w)`` in pixels, in the order of the ids.
        categories: Category id -> name, in the order of the file.
        annotations: Dicts with ``id`` (1, 2, ... whatever the file says: pycocotools reads a match
            with id 0 as no match), ``image_id``, ``category_id``, ``iscrowd``, ``ignore`` and what
            the file has of ``bbox`` (x, y, w, h), ``area`` and ``segmentation``.
        federation: LVIS rules, if the file has them.
        name: Where it comes from, for messages.
    """

    sizes: dict[Id, tuple[int, int]]
    categories: dict[Id, str]
    annotations: list[dict]
    federation: Federation | None = None
    name: str = 'the ground truth'
    _masks_ready: bool = field(default=False, repr=False)

    @classmethod
    def load(cls, path: str | Path, federated: bool = False) -> 'GroundTruth':
        """Read an annotation file.

        Args:
            path: COCO or LVIS json.
            federated: Read the LVIS fields too.

        Raises:
            ValueError: The file is cut off, or is no annotation file.
        """
        return cls.from_dict(load_json(path), federated, name=str(path))

    @classmethod
    def from_dict(
        cls, data: Mapping, federated: bool = False, name: str = 'the ground truth'
    ) -> 'GroundTruth':
        """Check a parsed annotation file and take what evaluation needs.

        Args:
            data: ``dict(images=..., annotations=..., categories=...)``.
            federated: Read the LVIS fields too.
            name: Used in messages.

        Raises:
            ValueError: Something is missing, doubled or does not refer to anything.
        """
        if not isinstance(data, Mapping):
            raise ValueError(
                f'{name} holds a {type(data).__name__}: expected a COCO annotation file'
            )
        missing = [key for key in ('images', 'categories') if key not in data]
        if missing:
            raise ValueError(f'{name} has no "{missing[0]}": expected a COCO annotation file')
        sizes = _unique(name, 'images', data['images'], _size)
        categories = _unique(
            name, 'categories', data['categories'], lambda c: str(c.get('name', c['id']))
        )
        annotations = list(_annotations(name, data.get('annotations') or [], sizes, categories))
        federation = _federation(name, data) if federated else None
        return cls(dict(_sorted_items(name, sizes)), categories, annotations, federation, name)

    def categories_of(self, classes: Sequence[str]) -> list[Id]:
        """Category id of every label, as MMDetection's data sets number them.

        They follow the order of the annotation file, not that of the class names, and leave out
        classes the file does not have; all categories of the file where no name is known.

        Args:
            classes: Names of the model's classes.
        """
        names = set(classes)
        return [i for i, name in self.categories.items() if name in names] or list(self.categories)

    def categories_named(self, classes: Sequence[str]) -> list[Id]:
        """Category id of every class of a model, in the order of its labels.

        Args:
            classes: Names of all its classes.

        Raises:
            ValueError: A class is missing, or they are listed in another order: MMDetection numbers
                labels as the training file lists its categories, so names of one of both may be
                wrong.
        """
        by_name = {name: category for category, name in self.categories.items()}
        missing = [name for name in classes if name not in by_name]
        if missing:
            raise ValueError(
                f'{self.name} does not list these classes of the model: '
                f'{", ".join(missing[:SHOWN])}; give a file with all its categories'
            )
        listed = [name for name in self.categories.values() if name in set(classes)]
        if listed != list(classes):
            raise ValueError(
                f'{self.name} lists the categories in another order than the model its classes '
                f'({", ".join(listed[:SHOWN])} there, {", ".join(classes[:SHOWN])} here): bring '
                'them into the order of the file the model was trained on'
            )
        return [by_name[name] for name in classes]

    def require(self, boxes: bool = False, masks: bool = False) -> None:
        """Complete boxes, areas and masks of the annotations.

        Args:
            boxes: Every annotation must have a box; made from the mask if the file has none.
            masks: Every ``segmentation`` becomes a compressed RLE.

        Raises:
            ValueError: An annotation has neither, or a mask that cannot be drawn.
        """
        if (masks or any('area' not in a for a in self.annotations)) and not self._masks_ready:
            self._encode_masks(needed=masks)
        for a in self.annotations:
            if 'area' not in a:
                a['area'] = _area(a, self.name)
            if boxes and 'bbox' not in a:
                if not a.get('segmentation'):
                    raise ValueError(f'{self.name}: annotation {a["file_id"]} has no bbox')
                rle = a['segmentation'] if self._masks_ready else self._rle(a)
                a['bbox'] = coco_mask.toBbox(rle).tolist()

    def _encode_masks(self, needed: bool) -> None:
        done = []
        for a in self.annotations:
            if not a.get('segmentation'):
                if needed:
                    raise ValueError(f'{self.name}: annotation {a["file_id"]} has no segmentation')
                continue
            a['segmentation'] = self._rle(a)
            done.append(a)
        areas = np.array([a['segmentation']['size'] for a in done], np.int64).reshape(-1, 2).prod(1)
        for i in misfits([a['segmentation']['counts'] for a in done], areas)[:1]:
            raise ValueError(
                f'{self.name}: the RLE of annotation {done[i]["file_id"]} cannot be decoded'
            )
        self._masks_ready = len(done) == len(self.annotations)

    def _rle(self, annotation: dict) -> dict:
        size = self.sizes[annotation['image_id']]
        try:
            counts = to_counts(annotation['segmentation'], size)
        except ValueError as error:
            raise ValueError(
                f'{self.name}: annotation {annotation["file_id"]} of image '
                f'{annotation["image_id"]}: {error}'
            ) from None
        return {'size': list(size), 'counts': counts}


def load_json(path: str | Path) -> Any:
    """Read a json file; a damaged one is named.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is cut off or is no json.
    """
    text = Path(path).read_text(encoding='utf-8')
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        if not text[error.pos :].strip() or error.msg.startswith('Unterminated'):
            raise ValueError(
                f'{path} ends in the middle of an entry (character {error.pos}): the file was '
                'cut off, copy or write it again'
            ) from None
        raise ValueError(f'{path} is no json: {error}') from None


def _unique(name: str, kind: str, entries: Any, value: Any) -> dict:
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        raise ValueError(f'{name}: "{kind}" is a {type(entries).__name__}, expected a list')
    found: dict = {}
    for i, entry in enumerate(entries):
        if not isinstance(entry, Mapping) or 'id' not in entry:
            raise ValueError(f'{name}: {kind}[{i}] has no id')
        if entry['id'] in found:
            raise ValueError(f'{name}: {kind}[{i}] has the id {entry["id"]}, which occurs twice')
        try:
            found[entry['id']] = value(entry)
        except (KeyError, TypeError, ValueError):
            raise ValueError(
                f'{name}: {kind}[{i}] (id {entry["id"]}) has no width and height'
            ) from None
    return found


def _size(image: Mapping) -> tuple[int, int]:
    return int(image['height']), int(image['width'])


def _sorted_items(name: str, sizes: dict) -> list:
    try:
        return sorted(sizes.items())
    except TypeError:
        raise ValueError(
            f'{name}: image ids of different types ({set(map(type, sizes))})'
        ) from None


def _annotations(name: str, entries: Any, sizes: dict, categories: dict) -> Iterator[dict]:
    for i, entry in enumerate(entries):
        label = f'{name}: annotations[{i}]'
        if not isinstance(entry, Mapping) or 'image_id' not in entry or 'category_id' not in entry:
            raise ValueError(f'{label} must be an object with image_id and category_id')
        if entry['image_id'] not in sizes:
            raise ValueError(f'{label} belongs to image {entry["image_id"]!r}, which is not listed')
        if entry['category_id'] not in categories:
            raise ValueError(
                f'{label} has the category {entry["category_id"]!r}, which is not listed'
            )
        annotation = {
            'id': i + 1,
            'file_id': entry.get('id', i),
            'image_id': entry['image_id'],
            'category_id': entry['category_id'],
            'iscrowd': int(bool(entry.get('iscrowd', 0))),
            'ignore': int(bool(entry.get('ignore', 0))),
        }
        annotation.update(
            {k: entry[k] for k in ('area', 'segmentation') if entry.get(k) is not None}
        )
        area = annotation.get('area', 0.0)
        if not isinstance(area, Real) or not math.isfinite(area):
            raise ValueError(f'{label} has the area {area!r}: expected a finite number')
        if entry.get('bbox') is not None:
            annotation['bbox'] = _box(label, entry['bbox'])
        yield annotation


def _box(label: str, box: Any) -> list[float]:
    numbers = isinstance(box, Sequence) and all(isinstance(value, Real) for value in box)
    if not numbers or len(box) != 4 or not np.isfinite(box).all():
        raise ValueError(
            f'{label} has the bbox {box!r}: expected four finite numbers x, y, w, h; leave "bbox" '
            'out and it is made from the segmentation'
        )
    if box[2] < 0 or box[3] < 0:
        raise ValueError(f'{label} has the bbox {list(box)} with a negative width or height')
    return [float(value) for value in box]


def _area(annotation: dict, name: str) -> float:
    if isinstance(annotation.get('segmentation'), dict):
        return float(coco_mask.area(annotation['segmentation']))
    if 'bbox' in annotation:
        return annotation['bbox'][2] * annotation['bbox'][3]
    raise ValueError(
        f'{name}: annotation {annotation["file_id"]} has neither area, segmentation nor bbox'
    )


def _federation(name: str, data: Mapping) -> Federation:
    absent, unfinished = {}, {}
    for image in data['images']:
        for key, table in (
            ('neg_category_ids', absent),
            ('not_exhaustive_category_ids', unfinished),
        ):
            if key not in image:
                raise ValueError(
                    f'{name}: image {image["id"]} has no "{key}", so this is no LVIS file; '
                    'score it with the COCO protocol'
                )
            if not isinstance(image[key], Collection) or isinstance(image[key], str):
                raise ValueError(
                    f'{name}: image {image["id"]} has the {key} {image[key]!r}: expected a list of '
                    'category ids'
                )
            table[image['id']] = frozenset(image[key])
    frequency = {c['id']: c.get('frequency') for c in data['categories']}
    odd = {i: value for i, value in frequency.items() if value not in FREQUENCIES}
    if odd:
        raise ValueError(f'{name}: categories must have the frequency r, c or f; found {odd}')
    return Federation(absent, unfinished, frequency)
