"""Instances drawn over a picture."""

import colorsys
import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont

from mmrefine.masks.crops import Crop, crop_masks, crop_of

from .instances import Instances, match

Colour = tuple[int, int, int]
GOLDEN_RATIO = 0.618034
UNMATCHED_GREY = (190, 190, 190)
TINT = 0.35
SMALL, PANEL_SIDE = 600, 4096  # longer side in pixels
SHEET_PANELS, SHEET_SIDE = 6, 1600  # on a sheet: how many, and the longer side of each
PALETTE, NEIGHBOURS = 13, 4  # hues to choose from, and objects that a hue has to differ from


def draw_instances(
    image: np.ndarray,
    masks: np.ndarray | Sequence[Mapping],
    texts: Sequence[str],
    colours: Sequence[Colour],
    scale: int = 1,
) -> np.ndarray:
    """Tint masks, trace their outlines and write a text on each, on a copy; later masks cover
    earlier ones.

    Outlines lie inside the masks. They and the texts grow with the picture, so that a photo of any
    size can be read when shown as a whole.

    Args:
        image: uint8[H, W, 3].
        masks: bool[N, H, W], or N RLEs, of which only the box is decoded, one at a time.
        texts: N short texts, e.g. ``'star 0.93'``; empty ones are not written.
        colours: N colours, in the channel order of the image.
        scale: Enlargement, so that thin parts and texts can be seen.
    """
    if not len(masks) == len(texts) == len(colours):
        raise ValueError(f'{len(masks)} masks, {len(texts)} texts and {len(colours)} colours')
    height, width = image.shape[:2]
    size = (width * scale, height * scale)
    enlarged = scale != 1
    canvas = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC) if enlarged else image.copy()
    side = math.sqrt(size[0] * size[1])  # the shorter one of a panorama says little
    line = max(1, round(side / 550))
    places: list[tuple[int, int, int, tuple[int, int]] | None] = []
    for mask, colour in zip(masks, colours):
        crop = _crop(mask, (height, width))
        inside = np.repeat(np.repeat(crop.pixels, scale, 0), scale, 1)
        if inside.size:
            x, y = crop.x * scale, crop.y * scale
            window = canvas[y : y + inside.shape[0], x : x + inside.shape[1]]
            _tint(window, inside, colour, line)
            ys, xs = np.nonzero(inside)
            places.append((x + int(xs.mean()), y + int(ys.mean()), y, inside.shape))
        else:
            places.append(None)
    # Texts come last, or the next mask would cover them.
    for place, text in zip(places, texts):
        if place is not None and text:
            x, y, top, (h, w) = place
            plate = _plate(text, letter_height(size))
            if plate.shape[0] > h / 2 or plate.shape[1] > w:
                y = top - plate.shape[0] // 2 - 1  # above an object that it would hide
            _put(canvas, plate, x, y)
    return canvas


def letter_height(size: tuple[int, int]) -> int:
    """Height in pixels of letters that can be read when a picture is shown as a whole."""
    return max(11, round(math.sqrt(size[0] * size[1]) / 52))


def _crop(mask: np.ndarray | Mapping, size: tuple[int, int]) -> Crop:
    found = tuple(mask['size'] if isinstance(mask, Mapping) else mask.shape)
    if found != size:
        raise ValueError(f'a mask of {found} on a picture of {size}')
    if isinstance(mask, Mapping):
        return crop_masks([mask['counts']], size[0])[0]
    return crop_of(mask)


def _tint(window: np.ndarray, inside: np.ndarray, colour: Colour, line: int) -> None:
    """Mix the colour into a mask by a third, and fill a band ``line`` pixels wide along its
    outline.

    The window uint8[h, w, 3] is the part of the canvas under the mask bool[h, w]; it is changed.
    """
    window[inside] = (window[inside] * (1 - TINT) + np.array(colour) * TINT).astype(np.uint8)
    # the box is the mask's own, so what lies beyond it is outside
    square = np.ones((2 * line + 1, 2 * line + 1), np.uint8)
    core = cv2.erode(inside.astype(np.uint8), square, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    window[inside & (core == 0)] = colour


def truth_beside_prediction(
    image: np.ndarray,
    truth: Instances,
    prediction: Instances,
    names: Mapping[Any, str] | Sequence[str],
    scale: int | None = None,
) -> np.ndarray:
    """Draw two panels on the picture without its colours: ground truth left, prediction right.

    A prediction takes the colour of the object it is matched to, whatever its category; grey ones
    cover none by half, or one that a better prediction has found.

    Args:
        image: uint8[H, W, 3] RGB.
        names: Name of every category.
        scale: Enlargement; None doubles pictures below ``SMALL``, and shrinks panels above
            ``PANEL_SIDE`` after they are drawn.
    """
    most = None if scale else PANEL_SIDE
    scale = scale or (2 if max(image.shape[:2]) < SMALL else 1)
    colours = neighbour_colours(truth.boxes)
    matched, _ = match(truth, prediction, by_category=False)
    shades = [colours[j] if j >= 0 else UNMATCHED_GREY for j in matched]
    image = without_colour(image)
    left = draw_instances(image, truth.rles, truth.texts(names), colours, scale)
    left = _titled(shrunk(left, most), 'ground truth')
    right = draw_instances(image, prediction.rles, prediction.texts(names), shades, scale)
    right = _titled(shrunk(right, most), 'prediction (grey: no object, or one found already)')
    gap = np.full((left.shape[0], 4, 3), 255, np.uint8)
    return np.concatenate([left, gap, right], 1)


def without_colour(image: np.ndarray) -> np.ndarray:
    """The picture uint8[H, W, 3] RGB in grey, so that what is coloured is a mask."""
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def shrunk(picture: np.ndarray, most: int | None) -> np.ndarray:
    """The picture with its longer side at most ``most`` pixels."""
    share = (most or math.inf) / max(picture.shape[:2])
    if share >= 1:
        return picture
    height, width = (max(round(side * share), 1) for side in picture.shape[:2])
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


def contact_sheet(panels: Sequence[np.ndarray], columns: int = 2) -> np.ndarray:
    """Put panels uint8[H, W, 3] side by side, padded with white to the largest."""
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


def neighbour_colours(boxes: np.ndarray) -> list[Colour]:
    """RGB colours of the objects of a picture, each unlike those of its nearest neighbours.

    Args:
        boxes: float[N, 4], x, y, width, height.
    """
    hues = np.array([_hue(i) for i in range(PALETTE)])
    centres = boxes[:, :2] + boxes[:, 2:] / 2
    chosen: list[int] = []
    for i in range(len(boxes)):
        nearest = np.argsort(np.hypot(*(centres[:i] - centres[i]).T), kind='stable')[:NEIGHBOURS]
        taken = hues[[chosen[j] for j in nearest]]
        apart = np.abs(hues[:, None] - taken)  # (PALETTE, neighbours), of a circle of length 1
        chosen.append(int(np.minimum(apart, 1 - apart).min(1, initial=1.0).argmax()))
    return [instance_colour(i) for i in chosen]


def instance_colour(index: int) -> Colour:
    """RGB colour of an instance or a track; those of close indices differ strongly in hue."""
    red, green, blue = colorsys.hsv_to_rgb(_hue(index), 0.85, 1.0)
    return int(red * 255), int(green * 255), int(blue * 255)


def _hue(index: int) -> float:
    return (0.02 + index * GOLDEN_RATIO) % 1


def _plate(text: str, height: int) -> np.ndarray:
    """A text of letters of ``height`` pixels with a margin: uint8[h, w], 255 in the letters."""
    font = _font(height)
    left, top, right, bottom = (round(side) for side in font.getbbox(text))
    pad = max(1, height // 6)
    plate = Image.new('L', (right - left + 2 * pad, bottom - top + 2 * pad))
    ImageDraw.Draw(plate).text((pad - left, pad - top), text, fill=255, font=font)
    return np.asarray(plate)


def _put(canvas: np.ndarray, plate: np.ndarray, x: int, y: int) -> None:
    """Lay a plate on a dark ground around (x, y), kept inside the picture, which it changes."""
    letters = plate[: canvas.shape[0], : canvas.shape[1]]
    h, w = letters.shape
    x = max(0, min(x - w // 2, canvas.shape[1] - w))
    y = max(0, min(y - h // 2, canvas.shape[0] - h))
    ground = canvas[y : y + h, x : x + w] // 3
    share = letters[..., None] / np.float32(255)
    canvas[y : y + h, x : x + w] = (ground * (1 - share) + 255 * share).astype(np.uint8)


@functools.cache
def _font(height: int) -> ImageFont.FreeTypeFont:
    """The font that matplotlib ships: most alphabets, unlike OpenCV's letters."""
    return ImageFont.truetype(
        str(Path(get_data_path()) / 'fonts' / 'ttf' / 'DejaVuSans.ttf'), height
    )


def _titled(panel: np.ndarray, title: str) -> np.ndarray:
    """The panel below a white bar with black letters that grow with it."""
    height = letter_height(panel.shape[1::-1])
    bar = np.zeros((round(height * 1.6) // 2 * 2, panel.shape[1], 3), np.uint8)
    _put(bar, _plate(title, height), 0, bar.shape[0] // 2)
    return np.concatenate([255 - bar, panel])
