"""Instances drawn over a picture."""

import colorsys
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from .instances import Instances, match

Colour = tuple[int, int, int]
GOLDEN_RATIO = 0.618034
UNMATCHED_GREY = (190, 190, 190)


def draw_instances(
    image: np.ndarray,
    masks: np.ndarray | Sequence[Mapping],
    texts: Sequence[str],
    colours: Sequence[Colour],
    scale: int = 1,
) -> np.ndarray:
    """Tint masks, trace their outlines and write a text on each; later masks cover earlier ones.

    Args:
        image: uint8[H, W, 3]; not changed.
        masks: bool[N, H, W], or N RLEs, of which one is decoded at a time.
        texts: N short texts, e.g. ``'star 0.93'``; empty ones are not written.
        colours: N colours, in the channel order of the image.
        scale: Enlargement, so that thin parts and texts can be seen.

    Returns:
        uint8[H * scale, W * scale, 3].

    Raises:
        ValueError: Masks of another size than the image, or another number of texts or colours.
    """
    if not len(masks) == len(texts) == len(colours):
        raise ValueError(f'{len(masks)} masks, {len(texts)} texts and {len(colours)} colours')
    height, width = image.shape[:2]
    size = (width * scale, height * scale)
    canvas = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
    centres = []
    for mask, colour in zip(masks, colours):
        if isinstance(mask, Mapping):
            mask = coco_mask.decode(mask)
        if mask.shape != (height, width):
            raise ValueError(f'a mask of {mask.shape} on a picture of {(height, width)}')
        large = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        inside = large > 0
        canvas[inside] = (canvas[inside] * 0.5 + np.array(colour) * 0.5).astype(np.uint8)
        outlines, _ = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, outlines, -1, colour, 1, cv2.LINE_8)
        ys, xs = np.nonzero(mask)
        centres.append((int(xs.mean() * scale), int(ys.mean() * scale)) if len(ys) else None)
    # Texts come last, or the next mask would cover them.
    for centre, text in zip(centres, texts):
        if centre is not None and text:
            _write(canvas, text, *centre)
    return canvas


def truth_beside_prediction(
    image: np.ndarray,
    truth: Instances,
    prediction: Instances,
    names: Mapping[Any, str] | Sequence[str],
    scale: int = 2,
) -> np.ndarray:
    """Draw two panels: ground truth left, prediction right.

    A prediction takes the colour of the object it is matched to, whatever its category; grey ones
    cover none by half, or one that a better prediction has found.

    Args:
        image: uint8[H, W, 3] RGB.
        names: Name of every category.
        scale: Enlargement.

    Returns:
        uint8[H * scale + title, 2 * W * scale + gap, 3] RGB.
    """
    colours = [instance_colour(i) for i in range(len(truth))]
    matched, _ = match(truth, prediction, by_category=False)
    shades = [colours[j] if j >= 0 else UNMATCHED_GREY for j in matched]
    left = draw_instances(image, truth.rles, truth.texts(names), colours, scale)
    right = draw_instances(image, prediction.rles, prediction.texts(names), shades, scale)
    gap = np.full((left.shape[0] + 18, 4, 3), 255, np.uint8)
    return np.concatenate([_titled(left, 'ground truth'), gap, _titled(right, 'prediction')], 1)


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


def instance_colour(index: int) -> Colour:
    """RGB colour of an instance or a track; those of close indices differ strongly in hue."""
    hue = (0.02 + index * GOLDEN_RATIO) % 1
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85, 1.0)
    return int(red * 255), int(green * 255), int(blue * 255)


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
