"""Read the ground truth of a COCO or LVIS annotation file."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from pycocotools import mask as coco_mask

from .annotations import KINDS, find_faults, require_lists, rle_corner_faults
from .fields import MaskReader
from .json_files import load_json

FREQUENCIES = ('r', 'c', 'f')
SHOWN = 5  # names listed in an error
Id: TypeAlias = Any  # whatever a file uses, as a rule int


@dataclass
class Federation:
    """LVIS: which categories were looked for in which image."""

    absent: dict[Id, frozenset]  # image id -> categories verified to be absent
    # image id -> categories of which not every object was annotated
    unfinished: dict[Id, frozenset]
    frequency: dict[Id, str]  # category id -> ``'r'``, ``'c'`` or ``'f'`` (rare, common, frequent)


@dataclass
class GroundTruth:
    """Annotations to evaluate against."""

    sizes: dict[Id, tuple[int, int]]  # image id -> ``(h, w)`` in pixels, in the order of the ids
    categories: dict[Id, str]  # category id -> name, in the order of the file
    # dicts with ``id`` (1, 2, ... whatever the file says: pycocotools reads a match with id 0 as no
    # match), ``image_id``, ``category_id``, ``iscrowd``, ``ignore`` and what the file has of
    # ``bbox`` (x, y, w, h), ``area`` and ``segmentation``; ``packed`` once that is a checked RLE
    annotations: list[dict]
    federation: Federation | None = None  # LVIS rules, if the file has them
    name: str = 'the ground truth'  # where it comes from, for messages
    file_names: dict[Id, str] = field(default_factory=dict)  # of the images

    @classmethod
    def load(cls, path: str | Path, federated: bool = False) -> 'GroundTruth':
        """Read a COCO or LVIS json; arguments and errors as for ``from_dict``, or a file that is
        cut off."""
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
        """
        require_lists(data, name, ['images', 'categories'], optional=['annotations'])
        for fault in find_faults(data):
            if KINDS[fault.kind].unscorable:
                raise ValueError(f'{name}: {fault.sentence}')
        sizes = {i['id']: (int(i['height']), int(i['width'])) for i in data['images']}
        categories = {c['id']: str(c.get('name', c['id'])) for c in data['categories']}
        annotations = [_annotation(i, a) for i, a in enumerate(data.get('annotations') or ())]
        federation = _federation(name, data) if federated else None
        try:
            sizes = dict(sorted(sizes.items()))
        except TypeError:
            kinds = set(map(type, sizes))
            raise ValueError(f'{name}: image ids of different types ({kinds})') from None
        # LVIS v1 names files by their address alone
        files = {i['id']: i.get('file_name') or i.get('coco_url') for i in data['images']}
        files = {i: str(file) for i, file in files.items() if file}
        return cls(sizes, categories, annotations, federation, name, files)

    def categories_of(self, classes: Sequence[str]) -> list[Id]:
        """Category id of every label, as MMDetection's data sets number them.

        They follow the order of the annotation file, not that of ``classes``, and leave out classes
        the file does not have; no classes stand for all categories. A ValueError says that it has
        none of them.
        """
        if not classes:
            return list(self.categories)
        names = set(classes)
        found = [i for i, name in self.categories.items() if name in names]
        if not found:
            listed = list(self.categories.values())
            raise ValueError(
                f'{self.name} has none of the classes {", ".join(list(classes)[:SHOWN])}; its '
                f'categories are {", ".join(listed[:SHOWN])}: names decide, set metainfo='
                'dict(classes=...) of the data set to those of the file'
            )
        return found

    def of_classes(self, classes: Sequence[str]) -> 'GroundTruth':
        """Keep the categories of these names alone, and their annotations; no name keeps all.

        Raises:
            ValueError: The file does not list one of them.
        """
        self._require_listed(classes, 'classes')
        kept = set(self.categories_of(classes))
        if len(kept) == len(self.categories):
            return self
        return replace(
            self,
            categories={i: name for i, name in self.categories.items() if i in kept},
            annotations=[a for a in self.annotations if a['category_id'] in kept],
        )

    def categories_named(self, classes: Sequence[str]) -> list[Id]:
        """Category id of every class of a model, in the order of its labels.

        Raises:
            ValueError: A class is missing or listed twice, or they are listed in another order:
                MMDetection numbers labels as the training file lists its categories, so names of
                one of both may be wrong.
        """
        by_name = {name: category for category, name in self.categories.items()}
        self._require_listed(classes, 'classes of the model')
        listed = [name for name in self.categories.values() if name in set(classes)]
        if listed != list(classes):
            raise ValueError(
                f'{self.name} lists the categories in another order than the model its classes '
                f'({", ".join(listed[:SHOWN])} there, {", ".join(classes[:SHOWN])} here): bring '
                'them into the order of the file the model was trained on'
            )
        return [by_name[name] for name in classes]

    def _require_listed(self, classes: Sequence[str], what: str) -> None:
        listed = list(self.categories.values())
        missing = [name for name in classes if name not in listed]
        if missing:
            raise ValueError(
                f'{self.name} does not list these {what}: {", ".join(missing[:SHOWN])} (it lists '
                f'{", ".join(listed[:SHOWN])}{", ..." if len(listed) > SHOWN else ""}): both must '
                'spell the same names'
            )

    def require(self, boxes: bool = False, masks: bool = False) -> None:
        """Complete boxes, areas and masks of the annotations.

        Args:
            boxes: Every annotation must have a box; made from the mask if the file has none.
            masks: Every ``segmentation`` becomes a compressed RLE.
        """
        if masks:
            self._refuse([a for a in self.annotations if not a.get('segmentation')], 'segmentation')
        elif boxes:
            bare = [a for a in self.annotations if 'bbox' not in a and not a.get('segmentation')]
            self._refuse(bare, 'bbox')
        incomplete = [
            a
            for a in self.annotations
            if 'area' not in a or (boxes and 'bbox' not in a) or (masks and 'packed' not in a)
        ]
        reader = MaskReader()
        # other ground truths may share the annotation, whose mask is read once
        unread = [a for a in incomplete if a.get('segmentation') and 'packed' not in a]
        packed = [a for a in unread if isinstance(a['segmentation'], Mapping)]
        for a in unread:
            image, size = a['image_id'], self.sizes[a['image_id']]
            label = f'{self.name}: annotation {a["file_id"]} of image {image}'
            counts = reader.read(label, a['segmentation'], size)
            a['segmentation'] = {'size': list(size), 'counts': counts}
        reader.check()  # pycocotools reads past the end of a string that breaks off
        for a in packed:
            for _, sentence in rle_corner_faults(a.get('bbox'), a['segmentation']):
                raise ValueError(f'{self.name}: annotation {a["file_id"]} {sentence}')
        for a in unread:
            a['packed'] = True
        for a in incomplete:
            mask = a.get('segmentation')
            if 'area' not in a and not mask and 'bbox' not in a:
                label = f'{self.name}: annotation {a["file_id"]}'
                raise ValueError(f'{label} has neither area, segmentation nor bbox')
            if 'area' not in a:
                a['area'] = float(coco_mask.area(mask)) if mask else a['bbox'][2] * a['bbox'][3]
            if boxes and 'bbox' not in a:
                a['bbox'] = coco_mask.toBbox(mask).tolist()

    def _refuse(self, bare: list[dict], what: str) -> None:
        """Raise ValueError if there are annotations without what is needed."""
        if not bare:
            return
        first, *others = [str(a['file_id']) for a in bare]
        more = f', nor have {len(others)} others ({", ".join(others[:2])}...)' if others else ''
        remedy = '; such objects can only be scored as boxes, metric bbox' * (what != 'bbox')
        raise ValueError(f'{self.name}: annotation {first} has no {what}{more}{remedy}')


def _annotation(i: int, entry: Mapping) -> dict:
    """Take what scoring needs of annotation ``i``."""
    annotation = {
        'id': i + 1,
        'file_id': entry.get('id', i),
        'image_id': entry['image_id'],
        'category_id': entry['category_id'],
        'iscrowd': int(bool(entry.get('iscrowd', 0))),
        'ignore': int(bool(entry.get('ignore', 0))),
    }
    kept = ('area', 'segmentation', 'bbox')
    annotation.update({k: entry[k] for k in kept if entry.get(k) is not None})
    if 'bbox' in annotation:
        annotation['bbox'] = [float(value) for value in entry['bbox']]
    return annotation


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
            try:
                table[image['id']] = frozenset(image[key])
            except TypeError:  # lists in the list
                raise ValueError(
                    f'{name}: image {image["id"]} has the {key} {image[key]!r}: expected ids'
                ) from None
    frequency = {c['id']: c.get('frequency') for c in data['categories']}
    odd = {i: value for i, value in frequency.items() if value not in FREQUENCIES}
    if odd:
        raise ValueError(f'{name}: categories must have the frequency r, c or f; found {odd}')
    return Federation(absent, unfinished, frequency)
