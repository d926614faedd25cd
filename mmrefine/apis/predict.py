"""Masks on pictures: from files to drawn pictures, COCO results and outlines."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from shapely.geometry import MultiPolygon, mapping
from torch import nn

from mmrefine.masks.crops import crop_masks
from mmrefine.masks.polygons import coco_segmentation, mask_polygons
from mmrefine.results.files import atomic_file, value_digest
from mmrefine.results.json_files import write_json_list
from mmrefine.results.progress import progress_bar
from mmrefine.results.resume_log import ResumeLog
from mmrefine.visualization.picture_files import write_bgr

from .inputs import Picture, find_inputs, read_picture
from .predictor import Prediction, Predictor, draw_prediction


@dataclass
class PredictionRun:
    """What ``predict`` found and wrote.

    Attributes:
        out: Folder of all files; None if nothing is written.
        predictions: Picture -> objects, of this run's pictures; empty if files are written.
        objects: Class -> number of objects.
        pictures: Number of pictures with results.
        unreadable: One sentence for each picture that could not be read.
        videos: Videos among the inputs, which ``predict`` leaves to ``track_clip``.
    """

    out: Path | None
    predictions: dict[Path, Prediction] = field(default_factory=dict)
    objects: Counter = field(default_factory=Counter)
    pictures: int = 0
    unreadable: list[str] = field(default_factory=list)
    videos: list[Path] = field(default_factory=list)

    def summary(self) -> str:
        """Three lines: how many objects of which class, on how many pictures, and where."""
        total = sum(self.objects.values())
        listed = ', '.join(f'{count} {name}' for name, count in self.objects.most_common(12))
        more = len(self.objects) - 12
        listed += f' and {more} more classes' if more > 0 else ''
        lines = [f'{total} objects on {self.pictures} pictures', listed or 'no objects']
        if self.out is not None:
            lines.append(f'{self.out}: pictures/, predictions.json, images.json')
        return '\n'.join(lines)


def predict(
    model: nn.Module,
    inputs: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    score: float = 0.3,
    classes: Sequence[str] | None = None,
    batch_size: int = 1,
    pictures: bool = True,
    polygons: bool = False,
    crops: bool = False,
    show_progress: bool = False,
    run: Mapping[str, Any] | None = None,
) -> PredictionRun:
    """Put masks on pictures.

    Args:
        model: From ``mmrefine.load_model`` or ``mmdet.apis.init_detector``.
        inputs: Pictures, folders, patterns or lists, see ``find_inputs``.
        out: Folder for ``pictures/``, ``predictions.json`` (COCO results), ``images.json`` (their
            pictures and categories); a stopped run goes on there. None returns the predictions.
        score: Objects below it are left out.
        classes: Names of the classes to keep; None keeps all.
        batch_size: Pictures at once.
        pictures: Draw every picture.
        polygons: Also write ``polygons.json`` (COCO annotations) and ``polygons.geojson``.
        crops: Also cut every object out, into ``crops/``.
        show_progress: Draw a progress bar.
        run: What else the results depend on (config, checkpoint): another run does not go on in
            the same folder.

    Raises:
        FileNotFoundError: An input leads to no file.
        ValueError: The model makes no masks, a class is unknown, or ``out`` is of another run.
    """
    given = [inputs] if isinstance(inputs, (str, Path)) else list(inputs)
    found, videos = find_inputs(given)
    predictor = Predictor(model, score, classes, batch_size)
    if out is None:
        result = PredictionRun(None, videos=videos)
        for picture, _, prediction in _predicted(predictor, found, result.unreadable):
            result.predictions[picture.path] = prediction
            _count(result, predictor, prediction.labels)
        return result
    writer = _Writer(Path(out), predictor.classes, pictures, polygons, crops)
    settings = {
        'pictures': value_digest([str(picture.path.resolve()) for picture in found]),
        'classes': list(predictor.classes),
        'score': score,
        'kept': None if classes is None else list(classes),
        'outputs': [pictures, polygons, crops],
        **(run or {}),
    }
    return writer.run(predictor, found, videos, settings, show_progress)


def _predicted(
    predictor: Predictor, pictures: Sequence[Picture], unreadable: list[str]
) -> Iterator[tuple[Picture, np.ndarray, Prediction]]:
    """Predict what can be read, with its pixels; the others are told in ``unreadable``."""
    pending: list[tuple[Picture, np.ndarray]] = []  # at most one batch

    def readable() -> Iterator[Path | np.ndarray]:
        for picture in pictures:
            try:
                pixels = read_picture(picture.path)
            except (OSError, ValueError) as error:
                unreadable.append(str(error))
                continue
            pending.append((picture, pixels))
            yield pixels if predictor.reads_arrays else picture.path

    for prediction in predictor(readable()):
        yield *pending.pop(0), prediction


def _count(result: PredictionRun, predictor: Predictor, labels: np.ndarray) -> None:
    result.pictures += 1
    result.objects.update(predictor.classes[label] for label in labels.tolist())


class _Writer:
    """Writes what is asked of every picture, and the lists at the end."""

    def __init__(
        self, out: Path, classes: Sequence[str], pictures: bool, polygons: bool, crops: bool
    ) -> None:
        self.out = out
        self.classes = classes
        self.pictures, self.polygons, self.crops = pictures, polygons, crops

    def run(
        self,
        predictor: Predictor,
        found: Sequence[Picture],
        videos: list[Path],
        settings: Mapping[str, Any],
        show_progress: bool,
    ) -> PredictionRun:
        result = PredictionRun(self.out, videos=videos)
        log = ResumeLog(self.out / 'run.log', settings)
        try:
            done = log.done()
            number = {picture: i for i, picture in enumerate(found)}
            todo = [picture for picture in found if number[picture] not in done]
            with progress_bar('pictures', len(todo), show_progress) as step:
                for picture, pixels, prediction in _predicted(predictor, todo, result.unreadable):
                    self._write_picture(picture, pixels, prediction)
                    entry = self._entry(number[picture], picture, prediction)
                    log.add(number[picture], [(None, entry)])
                    step()
            for entry in log.results():
                _count(result, predictor, np.array([o[0] for o in entry['objects']], int))
            self._write_lists(log.results)
        finally:
            log.close()
        log.path.unlink()
        return result

    def _entry(self, number: int, picture: Picture, prediction: Prediction) -> dict:
        h, w = prediction.size
        objects = [
            (int(label), float(score), box.tolist(), rle['counts'].decode('ascii'))
            for label, score, box, rle in zip(
                prediction.labels, prediction.scores, prediction.boxes, prediction.rles
            )
        ]
        name = picture.name.with_suffix(picture.path.suffix).as_posix()
        image = {'id': number + 1, 'file_name': name, 'width': w, 'height': h}
        return {'image': image, 'objects': objects}

    def _write_picture(self, picture: Picture, pixels: np.ndarray, prediction: Prediction) -> None:
        if self.crops:
            self._write_crops(pixels, picture, prediction)
        if self.pictures:
            target = self.out / 'pictures' / f'{picture.name}.jpg'
            write_bgr(target, draw_prediction(pixels, prediction, self.classes))

    def _write_crops(self, pixels: np.ndarray, picture: Picture, prediction: Prediction) -> None:
        """Cut out every object, transparent around it."""
        for i, rle in enumerate(prediction.rles):
            (crop,) = crop_masks([rle['counts']], rle['size'][0])
            inside = crop.pixels * np.uint8(255)  # (h, w), the box of the mask
            h, w = inside.shape
            if not h or not w:
                continue
            cut = np.dstack([pixels[crop.y : crop.y + h, crop.x : crop.x + w], inside])
            name = self.classes[prediction.labels[i]].replace('/', '_')
            target = self.out / 'crops' / f'{picture.name}_{i + 1:03d}_{name}.png'
            write_bgr(target, cut)

    def _write_lists(self, entries: Callable[[], Iterator[Any]]) -> None:
        categories = [{'id': i + 1, 'name': name} for i, name in enumerate(self.classes)]
        images = [entry['image'] for entry in entries()]
        head = {'images': images, 'categories': categories}
        with atomic_file(self.out / 'images.json') as file:
            json.dump({**head, 'annotations': []}, file)
        write_json_list(self.out / 'predictions.json', _results(entries()))
        if self.polygons:
            with atomic_file(self.out / 'polygons.json') as file:
                json.dump({**head, 'annotations': list(_annotations(entries()))}, file)
            features = list(_features(entries(), self.classes))
            with atomic_file(self.out / 'polygons.geojson') as file:
                json.dump({'type': 'FeatureCollection', 'features': features}, file)


def _objects(entries: Iterator[Any]) -> Iterator[tuple[dict, int, float, list, dict]]:
    """Image, label, score, box and RLE of every object."""
    for entry in entries:
        image = entry['image']
        for label, score, box, counts in entry['objects']:
            rle = {'size': [image['height'], image['width']], 'counts': counts}
            yield image, label, score, box, rle


def _results(entries: Iterator[Any]) -> Iterator[dict]:
    """COCO results."""
    for image, label, score, _, rle in _objects(entries):
        yield {
            'image_id': image['id'],
            'category_id': label + 1,
            'score': round(score, 6),
            'segmentation': rle,
        }


def _annotations(entries: Iterator[Any]) -> Iterator[dict]:
    """COCO annotations with polygons, for annotation tools."""
    for number, (image, label, score, box, rle) in enumerate(_objects(entries), 1):
        yield {
            'id': number,
            'image_id': image['id'],
            'category_id': label + 1,
            'score': round(score, 6),
            'bbox': [round(value, 2) for value in box],
            'area': int(coco_mask.area(rle)),
            'iscrowd': 0,
            'segmentation': coco_segmentation(mask_polygons(rle)),
        }


def _features(entries: Iterator[Any], classes: Sequence[str]) -> Iterator[dict]:
    """GeoJSON features in pixels, y down."""
    for image, label, score, _, rle in _objects(entries):
        properties = {
            'image': image['file_name'],
            'category': classes[label],
            'score': round(score, 6),
        }
        geometry = mapping(MultiPolygon(mask_polygons(rle)))
        yield {'type': 'Feature', 'properties': properties, 'geometry': geometry}
