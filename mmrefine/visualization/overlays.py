"""Pictures of ground truth beside prediction."""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

_GREY = (190, 190, 190)


@dataclass(frozen=True)
class Instances:
    """What is drawn over one picture.

    Args:
        masks: bool[N, H, W].
        names: N short texts, e.g. 'star 0.93'.
    """

    masks: np.ndarray
    names: Sequence[str]

    def __post_init__(self) -> None:
        if len(self.masks) != len(self.names):
            raise ValueError(f'{len(self.masks)} masks but {len(self.names)} names')


def truth_beside_prediction(
    image: np.ndarray, truth: Instances, prediction: Instances, scale: int = 2
) -> np.ndarray:
    """Draw two panels: ground truth left, prediction right.

    A prediction takes the colour of the object it covers best; grey ones cover none by half.

    Args:
        image: uint8[H, W, 3] RGB.
        scale: Enlargement, so that thin parts and names can be seen.

    Returns:
        uint8[H * scale + title, 2 * W * scale + gap, 3] RGB.
    """
    colours = distinct_colours(len(truth.masks))
    overlaps = mask_ious(prediction.masks, truth.masks)
    matched = [
        colours[row.argmax()] if len(row) and row.max() >= 0.5 else _GREY for row in overlaps
    ]
    left = _titled(draw_instances(image, truth, colours, scale), 'ground truth')
    right = _titled(draw_instances(image, prediction, matched, scale), 'prediction')
    gap = np.full((left.shape[0], 4, 3), 255, np.uint8)
    return np.concatenate([left, gap, right], 1)


def draw_instances(
    image: np.ndarray,
    instances: Instances,
    colours: Sequence[tuple[int, int, int]],
    scale: int = 1,
) -> np.ndarray:
    """Tint masks, trace their outlines and write their names.

    Args:
        image: uint8[H, W, 3] RGB.
        colours: One RGB colour per mask.
        scale: Enlargement.

    Returns:
        uint8[H * scale, W * scale, 3] RGB.
    """
    height, width = image.shape[:2]
    if instances.masks.shape[1:] != (height, width):
        raise ValueError(f'masks of {instances.masks.shape[1:]} on a picture of {(height, width)}')
    size = (width * scale, height * scale)
    canvas = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
    for mask, colour in zip(instances.masks, colours, strict=True):
        large = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        inside = large > 0
        canvas[inside] = (canvas[inside] * 0.5 + np.array(colour) * 0.5).astype(np.uint8)
        outlines, _ = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, outlines, -1, colour, 1, cv2.LINE_8)
    # Names come last, or the next mask would cover them.
    for mask, name in zip(instances.masks, instances.names, strict=True):
        ys, xs = np.nonzero(mask)
        if len(ys) and name:
            _write(canvas, name, int(xs.mean() * scale), int(ys.mean() * scale))
    return canvas


def contact_sheet(panels: Sequence[np.ndarray], columns: int = 2) -> np.ndarray:
    """Put panels side by side, padded with white to the largest.

    Args:
        panels: uint8[H, W, 3] each, at least one.
    """
    if not panels:
        raise ValueError('nothing to draw: no panels')
    height = max(panel.shape[0] for panel in panels) + 8
    width = max(panel.shape[1] for panel in panels) + 8
    rows = -(-len(panels) // columns)
    sheet = np.full((rows * height, min(columns, len(panels)) * width, 3), 255, np.uint8)
    for index, panel in enumerate(panels):
        y, x = index // columns * height + 4, index % columns * width + 4
        sheet[y : y + panel.shape[0], x : x + panel.shape[1]] = panel
    return sheet


def distinct_colours(count: int) -> list[tuple[int, int, int]]:
    """List RGB colours whose neighbours in the list differ strongly in hue."""
    golden = 0.618034
    hues = [(0.02 + index * golden) % 1 for index in range(count)]
    colours = [colorsys.hsv_to_rgb(hue, 0.85, 1.0) for hue in hues]
    return [(int(r * 255), int(g * 255), int(b * 255)) for r, g, b in colours]


def mask_ious(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the IoU of every pair of masks bool[N, H, W] and bool[M, H, W] as float[N, M]."""
    a = first.reshape(len(first), first[0].size if len(first) else 0).astype(np.float32)
    b = second.reshape(len(second), second[0].size if len(second) else 0).astype(np.float32)
    if not len(a) or not len(b):
        return np.zeros((len(a), len(b)), np.float32)
    shared = a @ b.T
    total = a.sum(1)[:, None] + b.sum(1) - shared
    return shared / np.maximum(total, 1)


def _write(canvas: np.ndarray, text: str, x: int, y: int) -> None:
    """Write text centred at (x, y), kept inside the picture."""
    font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.35
    (width, height), _ = cv2.getTextSize(text, font, size, 1)
    x = max(0, min(x - width // 2, canvas.shape[1] - width))
    y = max(height, min(y + height // 2, canvas.shape[0] - 2))
    canvas[y - height : y + 3, x : x + width] //= 3
    cv2.putText(canvas, text, (x, y), font, size, (255, 255, 255), 1, cv2.LINE_AA)


def _titled(panel: np.ndarray, title: str) -> np.ndarray:
    bar = np.full((18, panel.shape[1], 3), 255, np.uint8)
    cv2.putText(bar, title, (4, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([bar, panel])
