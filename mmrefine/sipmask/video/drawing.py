"""Objects of a frame painted over it, each id in its own colour."""

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np
from mmengine.structures import InstanceData

from mmrefine.masks import to_dense

# Steps of the golden ratio keep neighbouring ids far apart on the colour circle.
GOLDEN_RATIO = 0.618033988749895
OPACITY = 0.45


def color_of(track: int) -> tuple[int, int, int]:
    """The colour of an id, BGR; the same in every frame and every run."""
    hue = (0.1 + track * GOLDEN_RATIO) % 1.0
    value = (1.0, 0.8)[track // 8 % 2]
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85, value)
    return round(255 * blue), round(255 * green), round(255 * red)


def draw_objects(
    image: np.ndarray, objects: InstanceData, classes: Sequence[str] | None = None
) -> np.ndarray:
    """Paint masks, outlines and names.

    Args:
        image: uint8[H, W, 3], BGR; not changed.
        objects: ``instances_id``, ``labels``, ``scores``, ``masks`` (dense or RLE of H x W).
        classes: Names by label; ids alone without them.

    Returns:
        uint8[H, W, 3].
    """
    canvas = image.copy()
    masks = to_dense(objects.masks, image.shape[:2]).cpu().numpy()
    # The best object comes last, on top.
    for at in range(len(masks) - 1, -1, -1):
        mask, track = masks[at], int(objects.instances_id[at])
        color = color_of(track)
        tinted = canvas[mask] * (1 - OPACITY) + np.array(color) * OPACITY
        canvas[mask] = tinted.round().astype(np.uint8)
        outlines, _ = cv2.findContours(
            mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
        )
        cv2.drawContours(canvas, outlines, -1, color, 1)
        if mask.any():
            label = int(objects.labels[at])
            name = f' {classes[label]}' if classes is not None and label < len(classes) else ''
            rows, columns = np.nonzero(mask)
            text = f'{track}{name} {float(objects.scores[at]):.2f}'
            _write(canvas, text, (int(columns.min()), int(rows.min())), color)
    return canvas


def _write(
    canvas: np.ndarray, text: str, place: tuple[int, int], color: tuple[int, int, int]
) -> None:
    """Put black letters on the object's colour just above ``place`` (x, y), inside the picture."""
    (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.35, 1)
    left = max(min(place[0], canvas.shape[1] - width), 0)
    bottom = max(place[1] - below, height)
    corner = (left + width, bottom + below - 1)
    cv2.rectangle(canvas, (left, bottom - height), corner, color, cv2.FILLED)
    cv2.putText(canvas, text, (left, bottom), cv2.FONT_HERSHEY_SIMPLEX, 0.35, (0, 0, 0), 1)
