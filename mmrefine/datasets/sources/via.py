"""VGG Image Annotator: one json with the regions of every picture."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .coco import fitting_json, load
from .records import (
    Source,
    SourceImage,
    SourceObject,
    counted,
    labels_in_order,
    named_split,
    naming,
    picture_size,
)
from .shapes import ellipse, rectangle

LINES = ('polyline', 'point')


def find(source: Path) -> list[Path]:
    """The VIA files of a source."""
    return fitting_json(source, lambda content: bool(_entries(content)), (b'"regions"',))


def _entries(content: Any) -> list[Mapping]:
    """Entries of an export or a project, by picture."""
    if isinstance(content, Mapping) and isinstance(content.get('_via_img_metadata'), Mapping):
        content = content['_via_img_metadata']
    values = list(content.values()) if isinstance(content, Mapping) else []
    known = all(isinstance(v, Mapping) and 'filename' in v and 'regions' in v for v in values)
    return values if known else []


def read(source: Path, files: list[Path]) -> Source:
    """Read VIA files; the label is the region attribute most in use.

    Without any attribute all regions are ``'object'``.
    """
    images, notes, lines = [], [], []
    for path in files:
        entries = _entries(load(path))
        regions = [region for entry in entries for region in _regions(entry)]
        keys = Counter(k for r in regions for k, v in r.get('region_attributes', {}).items() if v)
        key = keys.most_common(1)[0][0] if keys else None
        notes.append(
            f'{path.name}: labels are the attribute {key!r}'
            if key
            else f'{path.name}: regions have no attributes, all are of the class "object"'
        )
        for entry in entries:
            picture = path.parent / entry['filename']
            if not picture.is_file():
                picture = path.parent / 'images' / entry['filename']
            width, height = picture_size(picture)
            image = SourceImage(picture, width, height, split=named_split(path, source))
            for i, region in enumerate(_regions(entry)):
                place = f'{path.name}, {entry["filename"]}, region {i}'
                if region['shape_attributes']['name'] in LINES:
                    lines.append(place)
                    continue
                with naming(place):
                    outline = _outline(region['shape_attributes'], place)
                image.objects.append(SourceObject(_label(region, key, place), [outline]))
            images.append(image)
    if lines:
        notes.append(counted(len(lines), 'lines or points enclose nothing and are left out', lines))
    return Source(images, labels_in_order(images), notes)


def _regions(entry: Mapping) -> Iterable[Mapping]:
    regions = entry['regions']
    return regions.values() if isinstance(regions, Mapping) else regions  # VIA 1, VIA 2


def _label(region: Mapping, key: str | None, place: str) -> str:
    if key is None:
        return 'object'
    value = region.get('region_attributes', {}).get(key)
    if isinstance(value, Mapping):  # a check box: {choice: true}
        chosen = [name for name, on in value.items() if on]
        value = chosen[0] if len(chosen) == 1 else None
    if not value:
        raise ValueError(f'{place} has no (single) value of the attribute {key!r}, its label')
    return str(value)


def _outline(shape: Mapping, place: str) -> list[float]:
    kind = shape['name']
    if kind == 'polygon':
        xs, ys = shape['all_points_x'], shape['all_points_y']
        if len(xs) != len(ys):
            raise ValueError(f'{place} has {len(xs)} x but {len(ys)} y: one of a pair is missing')
        return [float(value) for pair in zip(xs, ys) for value in pair]
    if kind == 'rect':
        return rectangle(shape['x'], shape['y'], shape['width'], shape['height'])
    if kind == 'circle':
        return ellipse(shape['cx'], shape['cy'], shape['r'], shape['r'])
    if kind == 'ellipse':
        turn = float(shape.get('theta', 0))
        return ellipse(shape['cx'], shape['cy'], shape['rx'], shape['ry'], turn)
    raise ValueError(f'{place} has the unknown shape {kind!r}')
