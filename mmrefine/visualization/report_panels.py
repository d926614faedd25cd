"""Pictures of a report: ground truth, predictions, their errors, and a closer look.

Shapes:   h x w image.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from mmrefine.evaluation.boundary import boundary_iou

from .boundary_errors import Objects, draw_errors, error_map, match
from .overlays import Instances, distinct_colours, draw_instances

WIDTH = 420  # of a panel on the page, pixels
CROWDED = 15  # more objects than that are drawn without their names
UNMATCHED = (190, 190, 190)


@dataclass
class Panel:
    """One picture.

    Attributes:
        title: Shown above it.
        alt: Said instead of it.
        source: ``data:`` address of the JPEG.
    """

    title: str
    alt: str
    source: str


def make_panels(
    image: np.ndarray,
    truth: Objects,
    found: Sequence[tuple[str, Objects]],
    names: dict,
) -> list[list[Panel]]:
    """Draw one image of the report.

    Args:
        image: uint8 array[h, w, 3], RGB.
        truth: Its objects.
        found: Name and predictions of each result file.
        names: Category id -> name.

    Returns:
        Rows of panels: masks, errors, and the errors around the object with the worst boundary.
    """
    size = image.shape[:2]
    scale = min(WIDTH / size[1], 4.0)
    drawn = max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)
    colours = distinct_colours(len(truth))
    labels = [str(names[c]) for c in truth.categories]
    masks = [
        _panel('ground truth', f'{len(truth)} objects', _draw(image, truth, labels, colours, drawn))
    ]
    plain = cv2.resize(image, drawn[::-1], interpolation=cv2.INTER_AREA)
    errors, maps, worst = [_panel('picture', 'the picture alone', plain)], [], None
    for name, objects in found:
        partner, ious = match(truth, objects)
        labels = [f'{names[c]} {s:.2f}' for c, s in zip(objects.categories, objects.scores)]
        shades = [colours[j] if j >= 0 else UNMATCHED for j in partner]
        picture = _draw(image, objects, labels, shades, drawn)
        masks.append(_panel(name, f'{len(objects)} predictions of {name}', picture))
        maps.append(error_map(truth, objects, partner, size))
        picture = draw_errors(image, maps[-1], truth, drawn)
        errors.append(_panel(f'errors of {name}', f'missed and extra pixels of {name}', picture))
        worst = _worse(worst, truth, objects, partner, ious, size)
    rows = [masks, errors]
    if worst is not None:
        rows.append(_closer(image, truth, [n for n, _ in found], maps, worst[1]))
    return rows


def _draw(
    image: np.ndarray,
    objects: Objects,
    labels: Sequence[str],
    colours: Sequence[tuple[int, int, int]],
    size: tuple[int, int],
) -> np.ndarray:
    """Draw masks at the size of the panel, so that big images cost no more than small ones."""
    target = (size[1], size[0])
    small = cv2.resize(image, target, interpolation=cv2.INTER_AREA)
    masks = np.zeros((len(objects), *size), bool)
    for mask, rle in zip(masks, objects.rles):
        share = coco_mask.decode(rle).astype(np.float32)
        mask[:] = cv2.resize(share, target, interpolation=cv2.INTER_AREA) >= 0.5
    if len(objects) > CROWDED:
        labels = [''] * len(objects)
    return draw_instances(small, Instances(masks, labels), colours)


def _worse(
    worst: tuple[float, dict] | None,
    truth: Objects,
    found: Objects,
    partner: Sequence[int],
    ious: np.ndarray,
    size: tuple[int, int],
) -> tuple[float, dict] | None:
    """Keep the object whose boundary IoU lies furthest below its mask IoU."""
    pairs = [(i, j) for i, j in enumerate(partner) if j >= 0]
    if not pairs:
        return worst
    rows, columns = (list(side) for side in zip(*pairs))
    counts = [
        [objects.rles[i]['counts'] for i in side]
        for objects, side in ((found, rows), (truth, columns))
    ]
    among = ious[np.ix_(rows, columns)]
    bands = boundary_iou(
        np.diag(among.diagonal()), counts[0], counts[1], np.zeros(len(pairs), bool), size
    )
    gaps = among.diagonal() - bands.diagonal()
    k = int(gaps.argmax())
    if worst is None or gaps[k] > worst[0]:
        return float(gaps[k]), truth.rles[columns[k]]
    return worst


def _closer(
    image: np.ndarray, truth: Objects, names: Sequence[str], maps: Sequence[np.ndarray], rle: dict
) -> list[Panel]:
    """Enlarge the surroundings of one object."""
    x, y, w, h = coco_mask.toBbox(rle)
    margin = 0.15 * max(w, h) + 4
    left, top = max(int(x - margin), 0), max(int(y - margin), 0)
    right = min(int(x + w + margin) + 1, image.shape[1])
    bottom = min(int(y + h + margin) + 1, image.shape[0])
    scale = min(WIDTH / (right - left), WIDTH / (bottom - top), 12.0)
    size = max(round((bottom - top) * scale), 1), max(round((right - left) * scale), 1)
    part = np.ascontiguousarray(image[top:bottom, left:right])
    mask = np.asfortranarray(coco_mask.decode(rle)[top:bottom, left:right])
    alone = Objects([coco_mask.encode(mask)], [0], np.ones(1), np.zeros(1, bool))
    plain = cv2.resize(part, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)
    panels = [_panel('closer: picture', 'the object with the worst boundary', plain)]
    for name, errors in zip(names, maps):
        picture = draw_errors(part, errors[top:bottom, left:right], alone, size)
        panels.append(_panel(f'closer: {name}', f'errors of {name} around one object', picture))
    return panels


def _panel(title: str, alt: str, picture: np.ndarray) -> Panel:
    options = [cv2.IMWRITE_JPEG_QUALITY, 90]
    data = cv2.imencode('.jpg', np.ascontiguousarray(picture[..., ::-1]), options)[1].tobytes()
    return Panel(title, alt, 'data:image/jpeg;base64,' + base64.b64encode(data).decode())
