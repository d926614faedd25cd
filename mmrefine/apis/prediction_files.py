"""The files of ``predict``: a drawing and crops of every picture, then COCO results, outlines."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from shapely import orient_polygons
from shapely.affinity import affine_transform
from shapely.geometry import MultiPolygon, mapping

from mmrefine.masks.crops import crop_masks
from mmrefine.masks.polygons import coco_segmentation, mask_polygons
from mmrefine.results.files import atomic_file
from mmrefine.results.json_files import write_json_list
from mmrefine.visualization.picture_files import write_bgr

from .inputs import Picture, read_world_file
from .predictor import Prediction, draw_prediction


@dataclass
class PredictionFiles:
    """What is written where; the attributes are arguments of ``predict``."""

    out: Path
    classes: Sequence[str]  # names by label
    pictures: bool
    polygons: bool
    crops: bool
    tolerance: float
    world_files: bool

    def folders(self) -> list[Path]:
        """Where pictures are written."""
        wanted = {'pictures': self.pictures, 'crops': self.crops}
        return [self.out / name for name, given in wanted.items() if given]

    def write_picture(self, picture: Picture, pixels: np.ndarray, found: Prediction) -> None:
        """Draw the objects of a picture, and cut each out, transparent around it."""
        for i, rle in enumerate(found.rles if self.crops else ()):
            (crop,) = crop_masks([rle['counts']], rle['size'][0])
            inside = crop.pixels * np.uint8(255)  # (h, w), the box of the mask
            h, w = inside.shape
            if not h or not w:
                continue
            cut = np.dstack([pixels[crop.y : crop.y + h, crop.x : crop.x + w], inside])
            name = self.classes[found.labels[i]].replace('/', '_')
            write_bgr(self.out / 'crops' / f'{picture.name}_{i + 1:03d}_{name}.png', cut)
        if self.pictures:
            drawn = draw_prediction(pixels, found, self.classes)
            write_bgr(self.out / 'pictures' / f'{picture.name}.jpg', drawn)

    def entry(self, number: int, picture: Picture, found: Prediction) -> dict[str, Any]:
        """What the lists say of a picture: its ``image``, ``objects`` and ``affine`` on a map."""
        h, w = found.size
        objects = [
            (int(label), float(score), box.tolist(), rle['counts'].decode('ascii'))
            for label, score, box, rle in zip(found.labels, found.scores, found.boxes, found.rles)
        ]
        image = {'id': number + 1, 'file_name': picture.file_name, 'width': w, 'height': h}
        affine = read_world_file(picture.path) if self.world_files else None
        return {'image': image, 'objects': objects, 'affine': affine}

    def write_lists(self, entries: Callable[[], Iterator[Any]]) -> None:
        """Write the lists from the entries of all pictures, which are read several times."""
        categories = [{'id': i + 1, 'name': name} for i, name in enumerate(self.classes)]
        images = [entry['image'] for entry in entries()]
        head = {'images': images, 'categories': categories}
        self._write('images.json', {**head, 'annotations': []})
        write_json_list(self.out / 'predictions.json', _results(entries()))
        if self.polygons:
            annotations = list(_annotations(entries(), self.tolerance))
            self._write('polygons.json', {**head, 'annotations': annotations})
            features = list(_features(entries(), self.classes, self.tolerance))
            self._write('polygons.geojson', {'type': 'FeatureCollection', 'features': features})

    def _write(self, name: str, content: dict[str, Any]) -> None:
        with atomic_file(self.out / name) as file:
            json.dump(content, file)


def _objects(entries: Iterator[Any]) -> Iterator[tuple[dict, int, float, list, dict]]:
    """Entry of the picture, label, score, box and RLE of every object."""
    for entry in entries:
        image = entry['image']
        for label, score, box, counts in entry['objects']:
            rle = {'size': [image['height'], image['width']], 'counts': counts}
            yield entry, label, score, box, rle


def _results(entries: Iterator[Any]) -> Iterator[dict]:
    """COCO results."""
    for entry, label, score, _, rle in _objects(entries):
        yield {
            'image_id': entry['image']['id'],
            'category_id': label + 1,
            'score': round(score, 6),
            'segmentation': rle,
        }


def _annotations(entries: Iterator[Any], tolerance: float) -> Iterator[dict]:
    """COCO annotations with polygons, for annotation tools."""
    for number, (entry, label, score, box, rle) in enumerate(_objects(entries), 1):
        yield {
            'id': number,
            'image_id': entry['image']['id'],
            'category_id': label + 1,
            'score': round(score, 6),
            'bbox': [round(value, 2) for value in box],
            'area': int(coco_mask.area(rle)),
            'iscrowd': 0,
            'segmentation': coco_segmentation(mask_polygons(rle, tolerance)),
        }


def _features(entries: Iterator[Any], classes: Sequence[str], tolerance: float) -> Iterator[dict]:
    """GeoJSON features in pixels, y down, or in the coordinates of a world file."""
    for entry, label, score, _, rle in _objects(entries):
        properties = {
            'image': entry['image']['file_name'],
            'category': classes[label],
            'score': round(score, 6),
        }
        shape = MultiPolygon(mask_polygons(rle, tolerance))
        if entry['affine'] is not None:
            shape = affine_transform(shape, entry['affine'])
        geometry = mapping(orient_polygons(shape))
        yield {'type': 'Feature', 'properties': properties, 'geometry': geometry}
