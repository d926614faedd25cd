"""Detections in columns: what a result file or a model says, checked against the ground truth."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from logging import WARNING
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log
from pycocotools import mask as coco_mask

from mmrefine.masks.run_lengths import misfits, pixel_counts, present, to_counts

from .ground_truth import GroundTruth, Id
from .json_stream import iterate_json_list


@dataclass
class Detections:
    """N detections; no dense masks, about 150 bytes and one RLE string each.

    Attributes:
        image_ids: N ids.
        category_ids: N ids.
        scores: float64 array[N].
        boxes: float64 array[N, 4], x, y, w, h in pixels of the image; NaN rows where there is none.
        counts: N compressed RLE counts at image size; None where there is no mask.
        mask_scores: float64 array[N], used for masks if the model rates them apart from the boxes.
        given_areas: float64 array[N], what counts as the area of each mask instead of its pixels.
    """

    image_ids: list[Id]
    category_ids: list[Id]
    scores: np.ndarray
    boxes: np.ndarray
    counts: Sequence[bytes | None]
    mask_scores: np.ndarray | None = None
    given_areas: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def select(self, kept: np.ndarray) -> 'Detections':
        """Keep the given detections.

        Args:
            kept: int64 array, indices in the wanted order.
        """
        if len(kept) == len(self) and (kept == np.arange(len(self))).all():
            return self
        return Detections(
            [self.image_ids[i] for i in kept],
            [self.category_ids[i] for i in kept],
            self.scores[kept],
            self.boxes[kept],
            [self.counts[i] for i in kept],
            None if self.mask_scores is None else self.mask_scores[kept],
            None if self.given_areas is None else self.given_areas[kept],
        )

    def areas(self, from_boxes: bool) -> np.ndarray:
        """Areas in square pixels that decide between small, medium and large.

        Args:
            from_boxes: Width x height of the box, where there is one, instead of the pixels of the
                mask.

        Returns:
            float64 array[N].
        """
        areas = self.boxes[:, 2] * self.boxes[:, 3]
        rows = np.flatnonzero(np.isnan(areas)) if from_boxes else np.arange(len(self))
        if not from_boxes and self.given_areas is not None:
            return self.given_areas
        areas[rows] = pixel_counts(present(self.counts[i] for i in rows.tolist()))
        return areas

    def filled_boxes(self, gt: GroundTruth) -> np.ndarray:
        """Boxes, made from the masks where there is none: float64 array[N, 4]."""
        boxes = self.boxes.copy()
        for i in np.flatnonzero(np.isnan(boxes[:, 0])).tolist():
            rle = {'size': gt.sizes[self.image_ids[i]], 'counts': self.counts[i]}
            boxes[i] = coco_mask.toBbox(rle)
        return boxes

    def require(self, boxes: bool = False, masks: bool = False) -> None:
        """Check that every detection has what an IoU type needs.

        Args:
            boxes: A box, or a mask to make it from.
            masks: A mask.

        Raises:
            ValueError: The first detection without.
        """
        boxless = np.isnan(self.boxes[:, 0])
        for i, counts in enumerate(self.counts):
            if counts is not None or not (masks or (boxes and boxless[i])):
                continue
            label = f'results[{i}] (image {self.image_ids[i]}) has no segmentation'
            if boxless[i]:
                raise ValueError(f'{label} and no bbox')
            raise ValueError(f'{label}: these results can only be scored as boxes, --iou-type bbox')


def load_results(
    results: str | Path | Iterable[Mapping], gt: GroundTruth, unknown: str = 'error'
) -> Detections:
    """Read a COCO result list.

    Args:
        results: Path of a json list, or its entries: ``image_id``, ``category_id``, ``score`` and
            ``bbox`` (x, y, w, h) and / or ``segmentation`` (RLE or polygons).
        gt: What the entries must refer to.
        unknown: What to do with entries of images or categories that ``gt`` does not list:
            ``'error'``, or ``'drop'`` them and log how many.

    Raises:
        ValueError: A damaged file, or the first entry that is wrong and why.
    """
    if unknown not in ('error', 'drop'):
        raise ValueError(f"unknown must be 'error' or 'drop', got {unknown!r}")
    if isinstance(results, Mapping):
        raise ValueError('results is a dict: expected a list of result entries')
    entries = iterate_json_list(results) if isinstance(results, (str, Path)) else results
    reader = _Reader(gt, unknown == 'drop')
    for i, entry in enumerate(entries):
        reader.add(i, entry)
    return reader.finish()


class _Reader:
    """Collects entries column by column."""

    def __init__(self, gt: GroundTruth, drop_unknown: bool) -> None:
        self.gt = gt
        self.drop_unknown = drop_unknown
        self.dropped: Counter = Counter()
        # Python keeps one object per row otherwise: an id read from json is a new int every time.
        self.images = {i: i for i in gt.sizes}
        self.categories = {i: i for i in gt.categories}
        self.index: list[int] = []
        self.image_ids: list[Id] = []
        self.category_ids: list[Id] = []
        self.scores: list[float] = []
        self.boxes: list[tuple[float, ...]] = []
        self.counts: list[bytes | None] = []

    def add(self, i: int, entry: Any) -> None:
        if not isinstance(entry, Mapping):
            raise ValueError(
                f'results[{i}] is a {type(entry).__name__}: expected an object per detection'
            )
        for key in ('image_id', 'category_id', 'score'):
            if key not in entry:
                raise ValueError(f'results[{i}] has no "{key}" (it has {sorted(entry)})')
        if not (
            self._known(i, 'image', entry, self.images)
            and self._known(i, 'category', entry, self.categories)
        ):
            return
        label = f'results[{i}] (image {entry["image_id"]})'
        image = self.images[entry['image_id']]
        self.scores.append(read_score(label, entry['score']))
        self.boxes.append(read_box(label, entry.get('bbox')))
        self.counts.append(read_mask(label, entry.get('segmentation'), self.gt.sizes[image]))
        self.index.append(i)
        self.image_ids.append(image)
        self.category_ids.append(self.categories[entry['category_id']])

    def _known(self, i: int, kind: str, entry: Mapping, table: dict) -> bool:
        value = entry[f'{kind}_id']
        if isinstance(value, Hashable) and value in table:
            return True
        if self.drop_unknown and isinstance(value, Hashable):
            self.dropped[kind] += 1
            return False
        known = list(table)
        some = ', '.join(map(repr, known[:5])) + (', ...' if len(known) > 5 else '')
        raise ValueError(
            f'results[{i}] has the {kind}_id {value!r}, which {self.gt.name} does not list (it has '
            f'{len(known)}: {some}). If these results cover more than this ground truth, drop such '
            "entries: --unknown drop (unknown='drop')"
        )

    def finish(self) -> Detections:
        for kind, number in self.dropped.items():
            print_log(
                f'{number} results of unknown {kind} ids were left out',
                logger='current',
                level=WARNING,
            )
        check_masks(self.counts, self.image_ids, self.gt, lambda i: f'results[{self.index[i]}]')
        return Detections(
            self.image_ids,
            self.category_ids,
            np.array(self.scores, np.float64),
            np.array(self.boxes, np.float64).reshape(-1, 4),
            self.counts,
        )


def read_score(label: str, score: Any) -> float:
    """Take a score that is a finite number.

    Raises:
        ValueError: It is not.
    """
    if isinstance(score, bool) or not isinstance(score, (int, float)) or not np.isfinite(score):
        raise ValueError(f'{label} has the score {score!r}: expected a finite number')
    return float(score)


def read_box(label: str, box: Any) -> tuple[float, ...]:
    """Take a box x, y, w, h; NaNs if there is none.

    Raises:
        ValueError: Not four finite numbers, or a negative width or height.
    """
    if box is None:
        return (np.nan,) * 4
    try:
        x, y, w, h = (float(value) for value in box)
    except (TypeError, ValueError):
        raise ValueError(
            f'{label} has the bbox {box!r}: expected four numbers x, y, w, h'
        ) from None
    if not np.isfinite((x, y, w, h)).all():
        raise ValueError(f'{label} has the bbox {box!r}: expected finite numbers')
    if w < 0 or h < 0:
        raise ValueError(
            f'{label} has the bbox {box!r} with a negative width or height (x2 < x1 or y2 < y1): '
            'results are x, y, width, height'
        )
    return x, y, w, h


def read_mask(label: str, segmentation: Any, size: tuple[int, int]) -> bytes | None:
    """Take a mask as compressed counts; None if there is none.

    Raises:
        ValueError: Wrong size or no mask.
    """
    if segmentation is None:
        return None
    try:
        return to_counts(segmentation, size)
    except ValueError as error:
        raise ValueError(f'{label}: {error}') from None


def check_masks(
    counts: Sequence[bytes | None],
    image_ids: Sequence[Id],
    gt: GroundTruth,
    label: Callable[[int], str],
) -> None:
    """Refuse run-length strings that do not decode to their image.

    Raises:
        ValueError: The first one that does not.
    """
    rows = [i for i, c in enumerate(counts) if c is not None]
    areas = np.array([gt.sizes[image_ids[i]] for i in rows], np.int64).reshape(-1, 2).prod(1)
    for j in misfits(present(counts), areas)[:1].tolist():
        i = rows[j]
        raise ValueError(
            f'{label(i)} (image {image_ids[i]}): the RLE cannot be decoded to '
            f'{" x ".join(map(str, gt.sizes[image_ids[i]]))} pixels'
        )
