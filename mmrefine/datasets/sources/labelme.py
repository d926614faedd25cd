"""labelme: one json beside every picture."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .coco import load
from .png_masks import rle_of
from .records import Source, SourceImage, SourceObject, counted, labels_in_order, named_split
from .shapes import circle, rectangle

LINES = ('line', 'linestrip', 'point', 'points')  # they enclose nothing


def find(source: Path) -> list[Path]:
    """The labelme files of a folder."""
    files = sorted(source.rglob('*.json')) if source.is_dir() else []
    contents = zip(files, map(load, files))
    return [p for p, c in contents if isinstance(c, dict) and {'shapes', 'imagePath'} <= c.keys()]


def read(source: Path) -> Source:
    """Read a folder; shapes of one label and one ``group_id`` are parts of one object."""
    images, lines = [], []
    for path in find(source):
        content = load(path)
        picture = path.parent / content['imagePath'].replace('\\', '/')
        if not picture.is_file():
            picture = path.with_name(Path(content['imagePath'].replace('\\', '/')).name)
        if not picture.is_file():
            raise ValueError(
                f'{path} belongs to {content["imagePath"]!r}, which is not there: put the picture '
                'beside the json'
            )
        width, height = content['imageWidth'], content['imageHeight']
        image = SourceImage(picture, width, height, split=named_split(path, source))
        groups: dict[Any, SourceObject] = {}
        for i, shape in enumerate(content['shapes']):
            if shape.get('shape_type', 'polygon') in LINES:
                lines.append(f'{path.name} shape {i}')
                continue
            outline = _segmentation(shape, (height, width), f'{path}, shape {i}')
            group = shape.get('group_id')
            key = (shape['label'], i if group is None else ('group', group))
            known = groups.get(key)
            if known is None:
                groups[key] = SourceObject(str(shape['label']), outline)
            elif isinstance(known.segmentation, list) and isinstance(outline, list):
                known.segmentation += outline
            else:
                raise ValueError(f'{path}: group {group} mixes polygons and masks')
        image.objects = list(groups.values())
        images.append(image)
    notes = [counted(len(lines), 'lines or points enclose nothing and are left out', lines)]
    return Source(images, labels_in_order(images), notes if lines else [])


def _segmentation(shape: dict, size: tuple[int, int], label: str) -> Any:
    points, kind = shape['points'], shape.get('shape_type', 'polygon')
    if kind == 'polygon':
        return [[float(value) for point in points for value in point]]
    if kind == 'rectangle':
        (x1, y1), (x2, y2) = points[0], points[-1]
        return [rectangle(min(x1, x2), min(y1, y2), abs(x2 - x1), abs(y2 - y1))]
    if kind == 'circle':
        return [circle(*points)]
    if kind == 'mask':
        # a picture of the box, its first corner given, both corners inclusive
        with Image.open(io.BytesIO(base64.b64decode(shape['mask']))) as crop:
            inside = np.array(crop) > 0
        x, y = (round(value) for value in points[0])
        canvas = np.zeros(size, bool)
        canvas[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
        return rle_of(canvas)
    raise ValueError(f'{label} has the unknown shape_type {kind!r}')
