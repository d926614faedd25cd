"""Read and check the boxes of a result file against an image list and a model's classes."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmrefine.results.ground_truth import GroundTruth, Id
from mmrefine.results.json_stream import iterate_json_list

from .work_file import BoxRow

NAMED = 5  # ids or names listed in an error
FARTHEST = 1e30  # models compute in float32, where more may be infinite
BAD_BOXES = ('error', 'empty')


@dataclass
class BoxReader:
    """Reads the boxes of a file; counts what it met.

    Attributes:
        gt: Images and categories.
        labels: Category id -> class of the model, for those it has.
        bad_boxes: What to do with a box that is not finite, or inverted: ``'error'``, or
            ``'empty'`` for an empty mask.
        bad: Such boxes found.
        outside: Boxes found that do not touch their image.
    """

    gt: GroundTruth
    labels: Mapping[Id, int]
    bad_boxes: str = 'error'
    bad: int = 0
    outside: int = 0
    _unknown: dict[str, dict] = field(default_factory=lambda: {'image': {}, 'category': {}})

    def rows(self, path: str | Path) -> Iterator[BoxRow]:
        """Yield the boxes one by one.

        Raises:
            ValueError: The file is damaged, an entry is no result, ids are unknown, or a box is
                bad. Unknown ids are collected and named together at the end.
        """
        places = {image: i for i, image in enumerate(self.gt.sizes)}
        for i, entry in enumerate(iterate_json_list(path)):
            label = f'{path}: entry {i}'
            _require_result(entry, label)
            image, category = entry['image_id'], entry['category_id']
            if image not in places:
                self._unknown['image'][image] = None
            elif category not in self.labels:
                self._unknown['category'][category] = None
            else:
                box = self._box(entry['bbox'], f'{label} (image {image!r})', self.gt.sizes[image])
                yield BoxRow(i, places[image], self.labels[category], box)
        self._refuse_unknown(path)

    def notes(self) -> list[str]:
        """What was odd about the boxes read."""
        found = {
            'boxes are not finite or inverted': self.bad,
            'boxes do not touch their image': self.outside,
        }
        return [f'{n} {what}: their masks are empty' for what, n in found.items() if n]

    def _box(
        self, values: Any, label: str, size: tuple[int, int]
    ) -> tuple[float, float, float, float] | None:
        numbers = isinstance(values, (list, tuple)) and len(values) == 4
        if not numbers or not all(type(v) in (int, float) for v in values):
            raise ValueError(f'{label}: bbox is {values!r}, expected four numbers x, y, w, h')
        x, y, w, h = map(_float, values)
        finite = all(abs(value) <= FARTHEST for value in (x, y, w, h))  # not so of NaN
        if not finite or w < 0 or h < 0:
            if self.bad_boxes == 'error':
                raise ValueError(
                    f'{label}: bbox is {values}, expected finite x, y, w, h with w >= 0 and '
                    'h >= 0; --bad-boxes empty gives such entries an empty mask'
                )
            self.bad += 1
            return None
        height, width = size
        self.outside += not (x < width and y < height and x + w > 0 and y + h > 0)
        return x, y, w, h

    def _refuse_unknown(self, path: str | Path) -> None:
        images, categories = self._unknown['image'], self._unknown['category']
        if images:
            raise ValueError(
                f'{path} has image ids that {self.gt.name} does not list: {_some(images)}'
            )
        missing = [c for c in categories if c not in self.gt.categories]
        if missing:
            raise ValueError(
                f'{path} has category ids that {self.gt.name} does not list: {_some(missing)}'
            )
        if categories:
            names = [f'{self.gt.categories[c]} (id {c})' for c in categories]
            raise ValueError(
                f'the model has no class of the name of these categories: {_some(names)}; it needs '
                'a mask head trained on them, or a json whose categories carry the names it knows'
            )


def labels_by_name(categories: Mapping[Id, str], classes: Sequence[str]) -> dict[Id, int]:
    """Category id -> class of the same name, for the categories whose name the model knows."""
    places = {name: i for i, name in enumerate(classes)}
    return {i: places[name] for i, name in categories.items() if name in places}


def _require_result(entry: Any, label: str) -> None:
    if not isinstance(entry, Mapping):
        raise ValueError(f'{label} is a {type(entry).__name__}, expected an object')
    for key in ('image_id', 'category_id', 'bbox', 'score'):
        if key not in entry:
            hint = '; give the box results of the detector' if key == 'bbox' else ''
            raise ValueError(f'{label} has no {key!r}{hint}')
    for key in ('image_id', 'category_id'):
        value = entry[key]
        whole = isinstance(value, float) and value.is_integer()
        if not isinstance(value, (int, str)) and not whole:
            raise ValueError(f'{label}: {key} is {value!r}, expected a whole number')


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer of more than 308 digits
        return math.inf


def _some(values: Any) -> str:
    shown = ', '.join(str(v) for v in list(values)[:NAMED])
    return shown + (f' and {len(values) - NAMED} more' if len(values) > NAMED else '')
