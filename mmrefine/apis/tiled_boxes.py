"""Masks for given boxes of large pictures, tile by tile."""

from pathlib import Path

import numpy as np
from torch import Tensor

from mmrefine.masks.crops import move_masks
from mmrefine.masks.rle import RLE

from .given_boxes import BoxSegmenter, checked_boxes, empty_mask
from .tiling import Tiling


class TiledBoxSegmenter:
    """``BoxSegmenter`` whose memory follows the tile.

    A box gets its mask on the tile that shows most around it; one that no tile holds, on the
    picture reduced to the size of a tile.

    Args:
        segmenter: For the tiles.
        tiling: How pictures are cut; smaller ones the segmenter takes whole.
    """

    def __init__(self, segmenter: BoxSegmenter, tiling: Tiling) -> None:
        self.segmenter, self.tiling = segmenter, tiling

    def segment(
        self, image: Path, boxes: Tensor | list, labels: Tensor | list
    ) -> tuple[list[RLE], tuple[int, int]]:
        """Masks of one image, and its size; as ``BoxSegmenter.segment``."""
        coords = checked_boxes(boxes).numpy().astype(np.float64)  # (N, 4)
        classes = np.asarray(labels)
        pixels = self.segmenter.prepare.read(image)
        size = pixels.shape[0], pixels.shape[1]
        windows = self.tiling.windows(size)
        if len(windows) == 1:
            return self.segmenter.segment(image, boxes, labels)
        masks: list[RLE] = [empty_mask(size)] * len(coords)
        held = self._places(coords, windows, size)
        for tile in np.unique(held).tolist():
            mine = np.flatnonzero(held == tile)
            x1, y1, x2, y2 = windows[tile].tolist() if tile >= 0 else (0, 0, size[1], size[0])
            part, scale = pixels[y1:y2, x1:x2].copy(), (1.0, 1.0)
            if tile < 0:
                part, scale = self.tiling.reduce(pixels)
            inside = (coords[mine] - [x1, y1, x1, y1]) / np.tile(scale, 2)
            found, _ = self.segmenter.segment(part, inside, classes[mine])
            for i, mask in zip(mine.tolist(), move_masks(found, (x1, y1), size, scale)):
                masks[i] = mask
        return masks, size

    def _places(self, boxes: np.ndarray, windows: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Tile of each box, -1 if none holds it whole: int64 array[N]."""
        h, w = size
        boxes = boxes.clip(0, [w, h, w, h])
        room = (boxes[:, None] - windows) * [1, 1, -1, -1]  # (N, T, 4)
        room[:, windows == [0, 0, w, h]] = np.inf  # sides of the picture
        least = room.min(2)
        return np.where(least.max(1) >= 0, least.argmax(1), -1)
