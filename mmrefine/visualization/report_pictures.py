"""Pictures of a report: ground truth, predictions, wrong pixels, and a closer look.

Shapes:   N objects or predictions, h x w image, H x W drawing.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from mmrefine.evaluation.boundary import boundary_iou

from .instances import Instances, match
from .overlays import UNMATCHED_GREY, Colour, draw_instances, neighbour_colours, without_colour

WIDTH = 420  # of a panel on the page, pixels
CROWDED = 15  # more objects than that are drawn without their names
# Kinds of pixels in an error map; 0 is no error. Colours stay apart for colour-blind readers.
MISSED, EXTRA, LOST_OBJECT, FALSE_OBJECT = 1, 2, 3, 4
COLOURS = {
    MISSED: (230, 97, 0),
    EXTRA: (0, 114, 220),
    LOST_OBJECT: (250, 190, 120),
    FALSE_OBJECT: (140, 200, 250),
}


@dataclass
class Panel:
    """One picture."""

    title: str  # shown above it
    alt: str  # read instead of it
    source: str  # ``data:`` address of the JPEG


def make_panels(
    image: np.ndarray, truth: Instances, found: Mapping[str, Instances], names: Mapping[Any, str]
) -> list[list[Panel]]:
    """Draw one image of the report, uint8 array[h, w, 3] RGB: masks, errors, and the worst
    boundary.

    ``found`` has the predictions of each result file, ``names`` those of the categories by id.
    """
    size = image.shape[:2]
    scale = min(WIDTH / size[1], 4.0)
    drawn = max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)
    colours = neighbour_colours(truth.boxes)
    picture = _draw(image, truth, truth.texts(names), colours, drawn)
    masks = [make_panel('ground truth', f'{len(truth)} objects', picture)]
    plain = cv2.resize(image, drawn[::-1], interpolation=cv2.INTER_AREA)
    errors = [make_panel('picture', 'the picture alone', plain)]
    maps, gaps = {}, []
    for name, predictions in found.items():
        partner, ious = match(truth, predictions)
        shades = [colours[j] if j >= 0 else UNMATCHED_GREY for j in partner]
        picture = _draw(image, predictions, predictions.texts(names), shades, drawn)
        masks.append(make_panel(name, f'{len(predictions)} predictions of {name}', picture))
        maps[name] = error_map(truth, predictions, partner, size)
        picture = draw_errors(image, maps[name], truth.rles, drawn)
        errors.append(
            make_panel(f'errors of {name}', f'missed and extra pixels of {name}', picture)
        )
        gaps += _boundary_gaps(truth, predictions, partner, ious, size)
    rows = [masks, errors]
    if gaps:
        _, worst = max(gaps, key=lambda gap: gap[0])
        rows.append(_closer(image, maps, truth.rles[worst]))
    return rows


def error_map(
    truth: Instances, found: Instances, partner: Sequence[int], size: tuple[int, int]
) -> np.ndarray:
    """Mark wrong pixels; ``partner`` is what ``match`` returned.

    uint8 array[h, w] of ``MISSED``, ``EXTRA``, ``LOST_OBJECT``, ``FALSE_OBJECT`` or 0. Of several
    errors at a pixel the one along a boundary is shown.
    """
    errors = np.zeros(size, np.uint8)
    lost = set(np.flatnonzero(~truth.is_crowd).tolist()) - set(partner)
    for j in sorted(lost):
        errors[_dense(truth.rles[j])] = LOST_OBJECT
    for i in (i for i, j in enumerate(partner) if j == -1):
        errors[_dense(found.rles[i])] = FALSE_OBJECT
    for i, j in enumerate(partner):
        if j >= 0:
            mask, real = _dense(found.rles[i]), _dense(truth.rles[j])
            errors[real & ~mask] = MISSED
            errors[mask & ~real] = EXTRA
    return errors


def draw_errors(
    image: np.ndarray, errors: np.ndarray, outlined: Sequence[dict], size: tuple[int, int]
) -> np.ndarray:
    """Paint errors over a pale grey picture, with the objects' outlines: uint8 array[H, W, 3], RGB.

    Args:
        image: uint8 array[h, w, 3], RGB.
        errors: uint8 array[h, w], from ``error_map``.
        outlined: RLEs of the objects, outlined in black.
        size: ``(H, W)`` of the drawing in pixels; errors thinner than its pixels stay visible.
    """
    target = size[::-1]
    grey = cv2.cvtColor(cv2.resize(image, target, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    canvas = np.repeat((140 + grey * 0.45).astype(np.uint8)[..., None], 3, axis=2)  # (H, W, 3)
    shrinking = size[0] < errors.shape[0]
    for kind in (LOST_OBJECT, FALSE_OBJECT, MISSED, EXTRA):
        share = (errors == kind).astype(np.float32)
        method = cv2.INTER_AREA if shrinking else cv2.INTER_NEAREST
        wrong = cv2.resize(share, target, interpolation=method) > 0.15
        # Whole objects shine through, thin bands do not.
        opacity = 1.0 if kind in (MISSED, EXTRA) else 0.5
        canvas[wrong] = (1 - opacity) * canvas[wrong] + opacity * np.array(COLOURS[kind])
    for rle in outlined:
        mask = cv2.resize(coco_mask.decode(rle), target, interpolation=cv2.INTER_NEAREST)
        outlines, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, outlines, -1, (20, 20, 20), 1, cv2.LINE_8)
    return canvas


def _draw(
    image: np.ndarray,
    instances: Instances,
    texts: Sequence[str],
    colours: Sequence[Colour],
    size: tuple[int, int],
) -> np.ndarray:
    """Draw masks at the size of the panel, so that big images cost no more than small ones."""
    target = size[::-1]
    small = without_colour(cv2.resize(image, target, interpolation=cv2.INTER_AREA))
    masks = np.zeros((len(instances), *size), bool)  # (N, H, W)
    for mask, rle in zip(masks, instances.rles):
        share = coco_mask.decode(rle).astype(np.float32)
        mask[:] = cv2.resize(share, target, interpolation=cv2.INTER_AREA) >= 0.5
    return draw_instances(
        small, masks, texts if len(masks) <= CROWDED else [''] * len(masks), colours
    )


def _boundary_gaps(
    truth: Instances,
    found: Instances,
    partner: Sequence[int],
    ious: np.ndarray,
    size: tuple[int, int],
) -> list[tuple[float, int]]:
    """Mask IoU minus boundary IoU of every pair, and the index of its object."""
    pairs = [(i, j) for i, j in enumerate(partner) if j >= 0]
    if not pairs:
        return []
    rows, columns = zip(*pairs)
    paired = ious[rows, columns]
    # Off the diagonal the mask IoU is zero, so only the pairs are compared.
    bands = boundary_iou(
        np.diag(paired),
        [found.rles[i]['counts'] for i in rows],
        [truth.rles[j]['counts'] for j in columns],
        np.zeros(len(pairs), bool),
        size,
    )
    return list(zip((paired - bands.diagonal()).tolist(), columns))


def _closer(image: np.ndarray, maps: Mapping[str, np.ndarray], rle: dict) -> list[Panel]:
    """Enlarge the surroundings of one object."""
    x, y, w, h = coco_mask.toBbox(rle)
    margin = 0.15 * max(w, h) + 4
    left, top = max(int(x - margin), 0), max(int(y - margin), 0)
    right = min(int(x + w + margin) + 1, image.shape[1])
    bottom = min(int(y + h + margin) + 1, image.shape[0])
    scale = min(WIDTH / (right - left), WIDTH / (bottom - top), 12.0)
    size = max(round((bottom - top) * scale), 1), max(round((right - left) * scale), 1)
    window = np.s_[top:bottom, left:right]
    part = np.ascontiguousarray(image[window])
    alone = coco_mask.encode(np.asfortranarray(coco_mask.decode(rle)[window]))
    plain = cv2.resize(part, size[::-1], interpolation=cv2.INTER_CUBIC)
    panels = [make_panel('closer: picture', 'the object with the worst boundary', plain)]
    for name, errors in maps.items():
        picture = draw_errors(part, errors[window], [alone], size)
        panels.append(make_panel(f'closer: {name}', f'errors of {name} around one object', picture))
    return panels


def _dense(rle: dict) -> np.ndarray:
    return coco_mask.decode(rle).astype(bool)


def make_panel(title: str, alt: str, picture: np.ndarray) -> Panel:
    """Put a picture, uint8[H, W, 3] RGB, into a page."""
    options = [cv2.IMWRITE_JPEG_QUALITY, 90]
    data = cv2.imencode('.jpg', np.ascontiguousarray(picture[..., ::-1]), options)[1].tobytes()
    return Panel(title, alt, 'data:image/jpeg;base64,' + base64.b64encode(data).decode())
