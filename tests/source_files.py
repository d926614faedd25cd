"""Pictures and annotation files of two objects, in the forms that exports have."""

import base64
import io
import json
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from mmrefine.datasets.sources.records import Source

SIZE = (40, 60)  # height, width
SQUARE = [10.0, 5.0, 30.0, 5.0, 30.0, 25.0, 10.0, 25.0]  # 20 x 20
TRIANGLE = [35.0, 10.0, 55.0, 10.0, 35.0, 30.0]


def picture(path: Path, size: tuple[int, int] = SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((*size, 3), 90, np.uint8))
    return path


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def masks(source: Source) -> dict[str, list[tuple[str, np.ndarray]]]:
    """Picture name -> (label, bool array) of its objects."""
    found = {}
    for image in source.images:
        objects = []
        for thing in image.objects:
            rle = thing.segmentation
            if isinstance(rle, list):
                parts = coco_mask.frPyObjects(rle, image.height, image.width)
                rle = coco_mask.merge(parts)
            objects.append((thing.label, coco_mask.decode(rle).astype(bool)))
        found[image.path.name] = objects
    return found


def drawn(polygon: list[float]) -> np.ndarray:
    return coco_mask.decode(coco_mask.frPyObjects([polygon], *SIZE))[..., 0].astype(bool)


def require_two_objects(source: Source, split: str | None = None) -> None:
    """``a.jpg`` has the square, a nut, and the triangle, a date; ``b.jpg`` has nothing."""
    found = masks(source)
    assert set(found) == {'a.jpg', 'b.jpg'} and found['b.jpg'] == []
    by_label = dict(found['a.jpg'])
    np.testing.assert_array_equal(by_label['nut'], drawn(SQUARE))
    np.testing.assert_array_equal(by_label['date'], drawn(TRIANGLE))
    assert sorted(source.classes) == ['date', 'nut']
    assert {image.split for image in source.images} == {split}


def coco_content(prefix: str = '') -> dict:
    images = [
        {'id': i, 'file_name': f'{prefix}{name}.jpg', 'height': SIZE[0], 'width': SIZE[1]}
        for i, name in enumerate('ab')
    ]
    annotations = [
        {'id': 1, 'image_id': 0, 'category_id': 1, 'segmentation': [SQUARE], 'iscrowd': 0},
        {'id': 2, 'image_id': 0, 'category_id': 2, 'segmentation': [TRIANGLE]},
    ]
    names = ['fruits', 'nut', 'date']  # Roboflow writes an umbrella category first
    categories = [{'id': i, 'name': name} for i, name in enumerate(names)]
    return {'images': images, 'annotations': annotations, 'categories': categories}


def pairs(polygon: list[float]) -> list[list[float]]:
    return np.reshape(polygon, (-1, 2)).tolist()


def labelme_file(name: str, shapes: list[dict]) -> dict:
    sides = {'imageHeight': SIZE[0], 'imageWidth': SIZE[1]}
    return {'version': '5.2.1', 'imagePath': name, 'imageData': None, **sides, 'shapes': shapes}


def yolo_line(index: int, polygon: list[float]) -> str:
    shares = [value / SIZE[1 - i % 2] for i, value in enumerate(polygon)]
    return ' '.join([str(index), *(f'{share:.8f}' for share in shares)])


def encoded_mask(height: int, width: int) -> str:
    crop = io.BytesIO()
    Image.fromarray(np.full((height, width), 255, np.uint8)).save(crop, format='PNG')
    return base64.b64encode(crop.getvalue()).decode()


def labelme_set(folder: Path, names: list[str], labels: tuple[str, ...] = ('cat', 'dog')) -> Path:
    """Pictures with one object of every label, each beside its json."""
    shapes = [
        {'label': label, 'points': pairs(SQUARE), 'shape_type': 'polygon'} for label in labels
    ]
    for name in names:
        file = picture(folder / f'{name}.png')
        write(file.with_suffix('.json'), labelme_file(file.name, shapes))
    return folder
