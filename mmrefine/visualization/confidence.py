"""The boundary of masks, coloured by how sure the model is of it.

Red is unsure, yellow undecided, green sure; see ``refinemask.inference`` for what the numbers mean.

Shapes: N instances, H x W image, S side of a grid over a box.
"""

from collections.abc import Sequence

import numpy as np

from mmrefine.evaluation.boundary import inner_band
from mmrefine.masks.crops import crop_of


def confidence_colours(confidences: np.ndarray, lowest: float = 0.5) -> np.ndarray:
    """Colours uint8[..., 3] RGB from red (``lowest`` and less) over yellow to green (1).

    Of confidences float[...] in [0, 1]; trained models seldom go below one half.
    """
    if not 0 <= lowest < 1:
        raise ValueError(f'lowest must be at least 0 and below 1, got {lowest}')
    share = np.clip((np.asarray(confidences, np.float32) - lowest) / (1 - lowest), 0, 1)
    red, green = np.clip(2 - 2 * share, 0, 1), np.clip(2 * share, 0, 1)
    return (np.stack([red, green, np.zeros_like(share)], -1) * 255).round().astype(np.uint8)


def draw_boundary_confidence(
    image: np.ndarray,
    masks: np.ndarray,
    confidences: np.ndarray,
    boxes: np.ndarray | None = None,
    maps: Sequence[np.ndarray] | None = None,
    width: int = 2,
) -> np.ndarray:
    """Colour the inner boundary band of every mask, in a copy of the image.

    Args:
        image: uint8[H, W, 3] RGB.
        masks: bool[N, H, W].
        confidences: float[N], one colour per instance unless there are maps.
        boxes: float[N, 4], (x1, y1, x2, y2) in pixels, exclusive; needed with maps.
        maps: N float[S, S] over the boxes: a colour per pixel.
        width: Of the band, in pixels.
    """
    if maps is not None and boxes is None:
        raise ValueError('maps lie over the boxes of the instances: give boxes too')
    counts = {len(x) for x in (masks, confidences, boxes, maps) if x is not None}
    if len(counts) > 1:
        raise ValueError(f'masks, confidences, boxes and maps differ in number: {sorted(counts)}')
    canvas = image.copy()
    for index, mask in enumerate(masks):
        band = inner_band(crop_of(mask), width)
        ys, xs = np.nonzero(band.pixels)
        ys, xs = ys + band.y, xs + band.x
        values = np.full(len(ys), confidences[index], np.float32)
        if maps is not None and boxes is not None:
            values = sample_map(maps[index], boxes[index], xs, ys)
        canvas[ys, xs] = confidence_colours(values)
    return canvas


def sample_map(values: np.ndarray, box: np.ndarray, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
    """Read a map float[S, S] over a box at pixels int[Q], nearest cell: float[Q].

    The box is (x1, y1, x2, y2) in pixels, exclusive; pixels outside of it take its border.
    """
    cells = []
    for pixels, low, high, size in ((ys, box[1], box[3], 0), (xs, box[0], box[2], 1)):
        cell = (pixels + 0.5 - low) / max(high - low, 1e-6) * values.shape[size]
        cells.append(np.clip(np.floor(cell), 0, values.shape[size] - 1).astype(int))
    return values[cells[0], cells[1]]
