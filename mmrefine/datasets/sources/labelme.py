"""labelme: one json beside every picture."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from .coco import fitting_json, load
from .png_masks import rle_of
from .records import (
    Source,
    SourceImage,
    SourceObject,
    class_name,
    counted,
    labels_in_order,
    named_split,
    naming,
    opened,
    picture_size,
)
from .shapes import circle, rectangle

LINES = ('line', 'linestrip', 'point', 'points')  # they enclose nothing


def find(source: Path) -> list[Path]:
    """The labelme files of a folder."""
    words = (b'"shapes"', b'"imagePath"')
    return fitting_json(source, _is_labelme, words) if source.is_dir() else []


def _is_labelme(content: Any) -> bool:
    return isinstance(content, dict) and {'shapes', 'imagePath'} <= content.keys()


def read(source: Path, files: list[Path]) -> Source:
    """Read a folder; shapes of one label and one ``group_id`` are parts of one object."""
    images, lines = [], []
    for path in files:
        with naming(str(path)):
            image = _image(path, lines)
        image.split = named_split(path, source)
        images.append(image)
    notes = [counted(len(lines), 'lines or points enclose nothing and are left out', lines)]
    return Source(images, labels_in_order(images), notes if lines else [])


def _image(path: Path, lines: list[str]) -> SourceImage:
    content = load(path)
    picture = path.parent / content['imagePath'].replace('\\', '/')
    if not picture.is_file():
        picture = path.with_name(Path(content['imagePath'].replace('\\', '/')).name)
    if not picture.is_file():
        raise ValueError(
            f'{path} belongs to {content["imagePath"]!r}, which is not there: put the picture '
            'beside the json'
        )
    width, height = content.get('imageWidth'), content.get('imageHeight')
    if width is None or height is None:
        width, height = picture_size(picture)
    groups: dict[Any, SourceObject] = {}
    for i, shape in enumerate(content['shapes']):
        place = f'{path}, shape {i}'
        if shape.get('shape_type', 'polygon') in LINES:
            lines.append(place)
            continue
        label, group = class_name(shape['label'], place), shape.get('group_id')
        outline = _segmentation(shape, (height, width), place)
        key = (label, i if group is None else ('group', group))
        known = groups.get(key)
        if known is None:
            groups[key] = SourceObject(label, outline)
        elif isinstance(known.segmentation, list) and isinstance(outline, list):
            known.segmentation += outline
        elif isinstance(known.segmentation, dict) and isinstance(outline, dict):
            both = coco_mask.merge([known.segmentation, outline])
            known.segmentation = {**both, 'counts': both['counts'].decode('ascii')}
        else:
            raise ValueError(f'{path}: group {group} mixes polygons and masks')
    return SourceImage(picture, width, height, list(groups.values()))


def _segmentation(shape: dict, size: tuple[int, int], label: str) -> Any:
    points, kind = shape['points'], shape.get('shape_type', 'polygon')
    if kind == 'polygon' or (kind == 'rectangle' and len(points) == 4):
        return [[float(value) for point in points for value in point]]
    if kind in ('rectangle', 'circle') and len(points) != 2:
        raise ValueError(f'{label} is a {kind} of {len(points)} points: expected 2')
    if kind == 'rectangle':
        (x1, y1), (x2, y2) = points
        return [rectangle(min(x1, x2), min(y1, y2), abs(x2 - x1), abs(y2 - y1))]
    if kind == 'circle':
        return [circle(*points)]
    if kind == 'mask':
        # a picture of the box, its first corner given, both corners inclusive
        with opened(io.BytesIO(base64.b64decode(shape['mask'])), label) as crop:
            inside = np.array(crop) > 0
        x, y = (round(value) for value in points[0])
        bottom, right = y + inside.shape[0], x + inside.shape[1]
        if x < 0 or y < 0 or bottom > size[0] or right > size[1]:
            raise ValueError(
                f'{label} is a mask of ({x}, {y}) to ({right}, {bottom}), which reaches over the '
                f'edge of the picture of {size[1]} x {size[0]} pixels: draw it again'
            )
        canvas = np.zeros(size, bool)
        canvas[y:bottom, x:right] = inside
        return rle_of(canvas)
    raise ValueError(f'{label} has the unknown shape_type {kind!r}')
