"""Large pictures tile by tile, and the objects put together again that the seams cut.

A *tile* is a window of the picture; one more, the whole picture reduced to the size of a tile,
sees what no tile holds. The *inside* of a tile is its window without a margin along the seams.
An object whose mask leaves the inside is a *piece*:

- a piece is left out if another tile holds it, and fewer seams cut it there: it saw more of it;
- two objects of one class are the same if their masks agree where both their windows are, and so do
  all views of both together, so that neighbours in a crowd stay apart; what one tile reports as two
  objects remains two;
- of the same objects one is taken that no seam cuts and whose tile shows all that the others see of
  it, the best one; otherwise the pieces are joined, and what lies beyond their tiles is taken from
  the reduced picture.

Shapes:   N objects, T tiles, H x W pixels of the picture.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from pycocotools import mask as coco_mask

from mmrefine.masks.crops import move_masks, subtract_masks
from mmrefine.masks.rle import RLE, boxed_masks_to_rle

from .predictor import Prediction, Predictor
from .tiling import Tiling

LEAST = 32  # sides of a reduced picture below it show nothing
MISSING = 0.03  # share of an object that no tile found
AGREEMENT = 0.5  # IoU of two masks in the pixels that both views saw


class TiledPredictor:
    """``Predictor`` for pictures larger than a tile; others it predicts as that does.

    Memory follows the tile: of each tile its objects remain, as RLE.

    Args:
        predictor: For the tiles; its ``batch_size`` is of tiles.
        tiling: How pictures are cut.
    """

    def __init__(self, predictor: Predictor, tiling: Tiling) -> None:
        self.predictor, self.tiling = predictor, tiling
        self.classes, self.reads_arrays = predictor.classes, predictor.reads_arrays

    def read(self, path: Path) -> np.ndarray:
        """As ``PicturePipeline.read``."""
        return self.predictor.read(path)

    def __call__(self, pictures: Iterable[Path | np.ndarray]) -> Iterator[Prediction]:
        """Predict pictures one after the other; as ``Predictor``."""
        for picture in pictures:
            pixels = picture if isinstance(picture, np.ndarray) else self.read(picture)
            size = pixels.shape[0], pixels.shape[1]
            windows = self.tiling.windows(size)
            if len(windows) == 1:
                yield from self.predictor([picture])
                continue
            objects = _Objects(size, windows, self.tiling)
            crops = (pixels[y1:y2, x1:x2].copy() for x1, y1, x2, y2 in windows.tolist())
            for tile, found in enumerate(self.predictor(crops)):
                objects.add(tile, found, (1.0, 1.0))
            small, scale = self.tiling.reduce(pixels)
            if min(small.shape[:2]) >= LEAST:
                (found,) = self.predictor([small])
                objects.add(len(windows), found, scale)
            yield objects.join()


class _Objects:
    """Objects of all tiles of a picture, in pixels of the picture."""

    def __init__(self, size: tuple[int, int], windows: np.ndarray, tiling: Tiling) -> None:
        whole = np.array([[0, 0, size[1], size[0]]])
        self.size = size
        self.windows = np.vstack([windows, whole])  # (T + 1, 4), the last is the reduced picture
        self.insides = tiling.insides(self.windows, size)
        self.margin = tiling.margin
        self.largest = tiling.overlap - 2 * tiling.margin  # what some tile surely holds
        self.tiles: list[int] = []
        self.scores: list[float] = []
        self.labels: list[int] = []
        self.rles: list[RLE] = []
        self.boxes: list[np.ndarray] = []  # as predicted, x, y, w, h
        self.overlaps: dict[tuple[int, int], tuple[float, float]] = {}

    def add(self, tile: int, found: Prediction, scale: tuple[float, float]) -> None:
        """Take the objects of a tile; of the reduced picture only those that no tile may hold."""
        offset = self.windows[tile, :2]
        boxes = found.boxes * np.tile(scale, 2) + [*offset, 0, 0]
        kept = np.arange(len(found))
        if tile == len(self.windows) - 1:
            kept = np.flatnonzero((boxes[:, 2:] > self.largest).any(1))
        x, y = offset.tolist()
        self.rles += move_masks([found.rles[i] for i in kept], (x, y), self.size, scale)
        self.boxes += list(boxes[kept])
        self.scores += found.scores[kept].tolist()
        self.labels += found.labels[kept].tolist()
        self.tiles += [tile] * len(kept)

    def join(self) -> Prediction:
        """The objects of the picture, best score first."""
        count = len(self.rles)
        self.shapes = list(self.rles)  # what is compared: boxes in place of empty masks
        self.extents = np.zeros((count, 4))  # x1, y1, x2, y2 of these
        if count:
            self.extents[:] = coco_mask.toBbox(self.rles)
            for i in np.flatnonzero(self.extents[:, 2] == 0).tolist():
                (self.shapes[i],) = coco_mask.frPyObjects(self.boxes[i][None], *self.size)
                self.extents[i] = self.boxes[i]
            self.extents[:, 2:] += self.extents[:, :2]
        self.tile_of, self.label_of = np.array(self.tiles, int), np.array(self.labels, int)
        sides = _leaves(self.extents, self.insides[self.tile_of])  # (N, 4)
        self.cut = np.asarray(sides.any(1))
        elsewhere = np.zeros(count, bool)
        for window, inside in zip(self.windows[:-1], self.insides[:-1]):
            there = _leaves(self.extents, inside)
            more = (there <= sides).all(1) & (there < sides).any(1)
            elsewhere |= more & ~_leaves(self.extents, window).any(1)
        groups = self._groups(np.flatnonzero(~elsewhere))
        kept = [self._one(group) for group in groups if self._from_tiles(group)]
        kept += self._unexplained(kept, [g[0] for g in groups if not self._from_tiles(g)])
        kept.sort(key=lambda one: -one[1])
        labels, scores, boxes, rles = zip(*kept) if kept else ((), (), (), ())
        return Prediction(
            self.size,
            np.array(boxes, float).reshape(-1, 4),
            np.array(scores, float),
            np.array(labels, np.int64),
            list(rles),
        )

    def _from_tiles(self, group: Sequence[int]) -> bool:
        return any(self.tiles[i] < len(self.windows) - 1 for i in group)

    def _groups(self, candidates: np.ndarray) -> list[list[int]]:
        """Gather the views of each object, beginning with those that agree best."""
        pairs = []
        for place, i in enumerate(candidates.tolist()):
            for j in candidates[place + 1 :][self._close(i, candidates[place + 1 :])].tolist():
                both, either = self._overlap(i, j)
                if either and both >= AGREEMENT * either:
                    pairs.append((-both / either, i, j))
        group = {i: [i] for i in candidates.tolist()}
        for _, i, j in sorted(pairs):
            first, second = group[i], group[j]
            if first is not second and not self._disagree(first, second):
                first += second
                group.update((k, first) for k in second)
        return list({id(members): members for members in group.values()}.values())

    def _close(self, i: int, others: np.ndarray) -> np.ndarray:
        """Which of the others may be the same object in another tile."""
        a, b = self.extents[i], self.extents[others]
        touching = (a[:2] <= b[:, 2:]).all(1) & (b[:, :2] <= a[2:]).all(1)
        last = len(self.windows) - 1
        # the reduced picture completes pieces, it does not compete with whole objects
        tiles, kinds = self.tile_of[others], self.label_of[others]
        fit = self.cut[others] if self.tiles[i] == last else self.cut[i] | (tiles != last)
        return touching & (tiles != self.tiles[i]) & (kinds == self.labels[i]) & fit

    def _overlap(self, i: int, j: int) -> tuple[float, float]:
        """Pixels in both of two masks and in either, of those that both their windows see; zeros
        if hardly any are there."""
        a, b = self.windows[self.tiles[i]], self.windows[self.tiles[j]]
        x1, y1 = np.maximum(a[:2], b[:2])
        x2, y2 = np.minimum(a[2:], b[2:])
        if x2 <= x1 or y2 <= y1:
            return 0.0, 0.0
        key = (i, j) if i < j else (j, i)
        if key not in self.overlaps:
            self.overlaps[key] = 0.0, 0.0
            window = _rectangle((int(x1), int(y1), int(x2), int(y2)), self.size)
            parts = [coco_mask.merge([self.shapes[k], window], intersect=True) for k in (i, j)]
            # a corner of an object beyond a seam says nothing
            areas = coco_mask.area(parts)
            whole = coco_mask.area([self.shapes[i], self.shapes[j]])
            if max(areas) > min(self.margin**2, min(whole) // 10):
                both = float(coco_mask.area(coco_mask.merge(parts, intersect=True)))
                self.overlaps[key] = both, float(areas.sum()) - both
        return self.overlaps[key]

    def _disagree(self, first: Sequence[int], second: Sequence[int]) -> bool:
        """Whether two groups hold objects that cannot be one.

        All their pixels are compared at once: the edge of a piece of a few columns says little.
        """
        if {self.tiles[i] for i in first} & {self.tiles[j] for j in second}:
            return True
        both, either = np.sum([self._overlap(i, j) for i in first for j in second], axis=0)
        return bool(both < AGREEMENT * either)

    def _one(self, group: list[int]) -> tuple[int, float, np.ndarray, RLE]:
        """Label, score, box and mask of the object of a group."""
        last = len(self.windows) - 1
        mine = [i for i in group if self.tiles[i] != last]
        # of an object in several parts a tile may show one whole and the next not at all
        whole = [
            i
            for i in mine
            if not (self.cut[i] or _leaves(self.extents[mine], self.windows[self.tiles[i]]).any())
        ]
        if whole or len(group) == 1:
            best = max(whole or mine, key=lambda i: self.scores[i])
            return self.labels[best], self.scores[best], self.boxes[best], self.rles[best]
        parts = [self.rles[i] for i in mine]
        areas = [max(1, int(coco_mask.area(part))) for part in parts]  # one by one: of 256 it fails
        score = float(np.average([self.scores[i] for i in mine], weights=areas))
        for i in (i for i in group if self.tiles[i] == last):
            rest = self._beyond(i, [self.tiles[j] for j in mine])
            # less is the rounding of enlarged pixels
            if coco_mask.area(rest) > MISSING * coco_mask.area(self.rles[i]):
                parts.append(rest)
        joined = coco_mask.merge(parts)
        return self.labels[mine[0]], score, coco_mask.toBbox(joined), joined

    def _beyond(self, i: int, tiles: Sequence[int]) -> RLE:
        """What of an object lies in none of the tiles."""
        windows = [_rectangle(tuple(self.windows[tile].tolist()), self.size) for tile in tiles]
        return subtract_masks(self.rles[i], windows)

    def _unexplained(self, known: Sequence[tuple], reduced: Sequence[int]) -> list[tuple]:
        """Objects of the reduced picture alone, if the tiles do not show others in their place."""
        kept = []
        for i in reduced:
            same = [rle for label, _, _, rle in known if label == self.labels[i]]
            # of crowds pycocotools gives the share of the first mask
            shares = coco_mask.iou([self.rles[i]], same, [1] * len(same)) if same else np.zeros(1)
            if shares.sum() < AGREEMENT:
                kept.append((self.labels[i], self.scores[i], self.boxes[i], self.rles[i]))
        return kept


def _leaves(boxes: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """By which sides boxes leave windows: array[N, 4], array[N, 4] or [4] -> BoolArray[N, 4]."""
    return np.hstack([boxes[:, :2] < windows[..., :2], boxes[:, 2:] > windows[..., 2:]])


@lru_cache(maxsize=256)
def _rectangle(box: tuple[int, int, int, int], size: tuple[int, int]) -> RLE:
    """RLE of all pixels in a window."""
    x1, y1, x2, y2 = box
    return boxed_masks_to_rle([torch.ones(y2 - y1, x2 - x1, dtype=torch.bool)], [(x1, y1)], size)[0]
