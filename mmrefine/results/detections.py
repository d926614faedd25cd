"""Detections in columns: read from result files, and written to them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from mmrefine.masks.run_lengths import pixel_counts, present

from .entries import Entry, EntryReader, coco_entry
from .files import atomic_file
from .ground_truth import GroundTruth, Id
from .json_files import json_text, write_json_list
from .result_lists import iterate_results

NO_BOX = (np.nan,) * 4


@dataclass
class Detections:
    """N detections; no dense masks, about 150 bytes and one RLE string each."""

    image_ids: list[Id]  # N ids
    category_ids: list[Id]  # N ids
    scores: np.ndarray  # float64 array[N]
    # float64 array[N, 4], x, y, w, h in pixels of the image; NaN rows where there is none
    boxes: np.ndarray
    # N compressed RLE counts at image size; None where there is no mask
    counts: Sequence[bytes | None]
    # float64 array[N], used for masks if the model rates them apart from the boxes
    mask_scores: np.ndarray | None = None
    # float64 array[N], what counts as the area of each mask instead of its pixels
    given_areas: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def select(self, kept: np.ndarray) -> 'Detections':
        """Keep the detections with these indices, int64 array, in their order."""
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
        """Areas in square pixels that decide between small, medium and large: float64 array[N].

        Those of the masks; ``from_boxes``, width x height of the boxes where there are any.
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
        """Check that every detection has what an IoU type needs: a mask, or a box (or a mask to
        make it from).

        Raises:
            ValueError: Detections without; their number and the first ones are named.
        """
        boxless = np.isnan(self.boxes[:, 0])
        maskless = np.array([counts is None for counts in self.counts], bool)
        bare = np.flatnonzero(maskless & (masks | (boxes & boxless))).tolist()
        if not bare:
            return
        first, *others = [f'results[{i}] (image {self.image_ids[i]})' for i in bare[:3]]
        more = f', nor have {len(bare) - 1} others, such as {", ".join(others)}' if others else ''
        if boxless[bare].any():
            raise ValueError(f'{first} has no segmentation and no bbox{more}')
        raise ValueError(
            f'{first} has no segmentation{more}: these results can only be scored as boxes, '
            '--iou-type bbox'
        )


def load_results(
    results: str | Path | Iterable[Mapping], gt: GroundTruth, unknown: str = 'error'
) -> Detections:
    """Read a COCO result list.

    Args:
        results: Path of a json list, see ``iterate_results``, or its entries: ``image_id``,
            ``category_id``, ``score`` and ``bbox`` (x, y, w, h) and / or ``segmentation`` (RLE or
            polygons).
        gt: What the entries must refer to.
        unknown: Entries of images or categories that ``gt`` does not list are an ``'error'``, or
            are left out (``'drop'``) and counted in the log.
    """
    reader = EntryReader(gt, unknown=unknown)
    if isinstance(results, Mapping):
        raise ValueError('results is a dict: expected a list of result entries')
    entries = iterate_results(results, gt) if isinstance(results, (str, Path)) else results
    dt = in_columns(reader.read(f'results[{i}]', entry) for i, entry in enumerate(entries))
    reader.finish()
    return dt


def in_columns(entries: Iterable[Entry | None]) -> Detections:
    """Collect what entries say, one at a time; dropped ones are None."""
    image_ids, category_ids, counts = [], [], []
    scores: list[float | None] = []
    boxes: list[tuple[float, ...]] = []
    for entry in entries:
        if entry is not None:
            image_ids.append(entry.image)
            category_ids.append(entry.category)
            scores.append(entry.score)
            boxes.append(entry.box or NO_BOX)
            counts.append(entry.counts)
    rated, shaped = np.array(scores, np.float64), np.array(boxes, np.float64).reshape(-1, 4)
    return Detections(image_ids, category_ids, rated, shaped, counts)


def result_entries(dt: Detections, gt: GroundTruth, masks: bool) -> Iterator[dict[str, Any]]:
    """Yield COCO result entries, with masks or boxes."""
    scores = dt.mask_scores if masks and dt.mask_scores is not None else dt.scores
    columns = zip(dt.image_ids, dt.category_ids, scores.tolist(), dt.boxes.tolist(), dt.counts)
    for image, category, score, box, counts in columns:
        yield coco_entry(image, category, score, box, counts if masks else None, gt.sizes[image])


def write_coco_truth(gt: GroundTruth, path: str) -> None:
    """Write images, categories and annotations as a COCO file."""
    gt.require(boxes=True)
    annotations = []
    for a in gt.annotations:
        entry = {k: a[k] for k in ('id', 'image_id', 'category_id', 'bbox', 'area', 'iscrowd')}
        mask = a.get('segmentation')
        if isinstance(mask, Mapping) and isinstance(mask['counts'], bytes):
            mask = {**mask, 'counts': mask['counts'].decode('ascii')}
        annotations.append({**entry, **({'segmentation': mask} if mask else {})})
    images = [{'id': i, 'height': h, 'width': w} for i, (h, w) in gt.sizes.items()]
    categories = [{'id': i, 'name': name} for i, name in gt.categories.items()]
    data = {'images': images, 'annotations': annotations, 'categories': categories}
    with atomic_file(path) as file:
        file.write(json_text(data))


def write_coco_results(dt: Detections, gt: GroundTruth, prefix: str) -> list[str]:
    """Write ``PREFIX.bbox.json``, and ``PREFIX.segm.json`` if there are masks; return the paths."""
    files = [f'{prefix}.bbox.json']
    write_json_list(files[0], result_entries(dt, gt, masks=False))
    if len(dt) == 0 or dt.counts[0] is not None:
        files.append(f'{prefix}.segm.json')
        write_json_list(files[1], result_entries(dt, gt, masks=True))
    return files
