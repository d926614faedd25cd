"""One entry of a result file: read and checked against a ground truth, and written."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .fields import BoxError, MaskReader, Report, is_number, read_box, refuse
from .ground_truth import GroundTruth, Id
from .log import log_warning

SHOWN = 5  # ids listed in an error
UNKNOWN = ('error', 'drop')


class Entry(NamedTuple):
    """What an entry says; a field with a reported fault, or missing, is None."""

    label: str  # names the entry in messages
    image: Id  # id of its image or video
    category: Id  # id of its category
    score: float | None  # a finite number
    box: tuple[float, float, float, float] | None = None  # x, y, w, h in pixels of the image
    counts: bytes | None = None  # compressed RLE counts at image size


def coco_entry(
    image: Id,
    category: Id,
    score: float | None,
    box: Sequence[float] | None,
    counts: bytes | None,
    size: tuple[int, int],
) -> dict[str, Any]:
    """Write a result of an image of ``size`` (h, w): its mask, or its box where there is none.

    Never both: the mask would be put among the small, medium or large ones by the area of the box.
    """
    entry: dict[str, Any] = {'image_id': image, 'category_id': category, 'score': score}
    if counts is not None:
        entry['segmentation'] = {'size': list(size), 'counts': counts.decode('ascii')}
    elif box is not None:
        entry['bbox'] = list(box)
    return entry


class EntryReader:
    """Reads result entries; call ``finish`` after the last one.

    Args:
        gt: Images (or videos) and categories that may occur.
        owner: ``'image'`` or ``'video'``.
        report: Gets one sentence a fault; by default the first one is raised as ValueError.
        unknown: Entries of images or categories that ``gt`` does not list: ``'error'``, ``'drop'``
            them and log how many, or None: an error, and the caller cannot drop them.
        submitted: Servers' rules: scores in (0, 1], and masks as RLE only.
    """

    def __init__(
        self,
        gt: GroundTruth,
        owner: str = 'image',
        report: Report = refuse,
        unknown: str | None = None,
        submitted: bool = False,
    ) -> None:
        if unknown is not None and unknown not in UNKNOWN:
            raise ValueError(f"unknown must be 'error' or 'drop', got {unknown!r}")
        self.gt = gt
        self.owner = owner
        self.report = report
        self.unknown = unknown
        self.submitted = submitted
        self.masks = MaskReader(report, rle_only=submitted)
        self.dropped: Counter = Counter()
        # An id read from json is a new int every time: entries share those of the ground truth.
        self._tables = {
            f'{owner}_id': {i: i for i in gt.sizes},
            'category_id': {i: i for i in gt.categories},
        }

    def read(self, label: str, entry: Any) -> Entry | None:
        """Read a detection of an image; None if it is no object, or dropped. ``label`` names it in
        messages."""
        found = self.read_ids(label, entry)
        if found is None:
            return None
        box = counts = None
        try:
            box = read_box(entry['bbox']) if entry.get('bbox') is not None else None
        except BoxError as error:
            self.report(f'{found.label} {error}')
        if found.image is not None:
            size = self.gt.sizes[found.image]
            counts = self.masks.read(found.label, entry.get('segmentation'), size)
        return found._replace(box=box, counts=counts)

    def read_ids(self, label: str, entry: Any) -> Entry | None:
        """Read ids and score of a detection or track; see ``read``."""
        if not isinstance(entry, Mapping):
            kind = type(entry).__name__
            self.report(f'{label} is a {kind}, expected an object: wrong nesting')
            return None
        for key in (*self._tables, 'score'):
            if key not in entry:
                self.report(f'{label} has no "{key}" (it has {sorted(entry)})')
        label = f'{label} ({self.owner} {entry.get(f"{self.owner}_id")})'
        ids: list[Id] = []
        for key, table in self._tables.items():
            value = entry.get(key)
            ids.append(table.get(value) if isinstance(value, Hashable) else None)
            if ids[-1] is None and key in entry:
                if self.unknown == 'drop' and isinstance(value, Hashable):
                    self.dropped[key] += 1
                    return None
                self._report_unknown(label, key, value)
        return Entry(label, ids[0], ids[1], self._score(label, entry))

    def finish(self) -> None:
        """Check the masks read last, and log how many entries were dropped."""
        self.masks.check()
        for key, number in self.dropped.items():
            log_warning(f'{number} results of unknown {key.replace("_", " ")}s were left out')

    def _score(self, label: str, entry: Mapping) -> float | None:
        score: Any = entry.get('score')
        number = is_number(score) and not isinstance(score, (bool, np.bool_))
        if number and (0 < score <= 1 or not self.submitted):
            return float(score)
        if 'score' in entry:
            wanted = 'which is not in (0, 1]' if self.submitted else 'expected a finite number'
            self.report(f'{label} has the score {score!r}, {wanted}')
        return None

    def _report_unknown(self, label: str, key: str, value: Any) -> None:
        known = list(self._tables[key])
        some = ', '.join(map(repr, known[:SHOWN])) + (', ...' if len(known) > SHOWN else '')
        remedy = (
            '. If these results cover more than this ground truth, drop such entries: '
            "--unknown drop (unknown='drop')"
        )
        self.report(
            f'{label} has the unknown {key} {value!r}, which {self.gt.name} does not list (it has '
            f'{len(known)}: {some}){remedy if self.unknown else ""}'
        )
