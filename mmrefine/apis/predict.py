"""Masks on pictures: from files to drawn pictures, COCO results and outlines."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as coco_mask
from shapely import orient_polygons
from shapely.affinity import affine_transform
from shapely.geometry import MultiPolygon, mapping
from torch import nn

from mmrefine.masks.crops import crop_masks
from mmrefine.masks.polygons import coco_segmentation, mask_polygons
from mmrefine.results.files import atomic_file, value_digest
from mmrefine.results.json_files import write_json_list
from mmrefine.results.progress import progress_bar
from mmrefine.results.resume_log import ResumeLog
from mmrefine.visualization.picture_files import write_bgr

from .exclusive import ExclusivePredictor
from .inputs import Picture, find_inputs, read_picture, read_world_file
from .predictor import Prediction, Predictor, draw_prediction
from .tiles import TiledPredictor
from .tiling import read_tiling
from .views import View

MERGES = ('nms', 'soft_nms', 'weighted_boxes')


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


class Outputs(NamedTuple):
    """Files that ``predict`` writes, see there."""

    pictures: bool
    polygons: bool
    crops: bool
    tolerance: float
    world_files: bool


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
    tile: int | tuple[int, int] | None = None,
    overlap: int | None = None,
    views: Sequence[View] | None = None,
    merge: str = 'nms',
    exclusive: bool = False,
    tolerance: float = 0.0,
    world_files: bool = False,
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
        batch_size: Pictures, or tiles, at once.
        pictures: Draw every picture.
        polygons: Also write ``polygons.json`` (COCO annotations) and ``polygons.geojson``.
        crops: Also cut every object out, into ``crops/``.
        tile: Height and width of the tiles of larger pictures, or one number for both; see
            ``Tiling``.
        overlap: Pixels that tiles share; by default a quarter of the shorter side.
        views: Scales and mirror images to merge, see ``ViewsTTAModel``.
        merge: How: ``nms``, ``soft_nms`` or ``weighted_boxes``.
        exclusive: Give every pixel to the best-scored object only.
        tolerance: Pixels by which the outlines of ``polygons`` may be simplified.
        world_files: Take the coordinates of ``polygons.geojson`` from the world file beside each
            picture.
        show_progress: Draw a progress bar.
        run: What else the results depend on (config, checkpoint): another run does not go on in
            the same folder.

    Raises:
        FileNotFoundError: An input leads to no file.
        ValueError: The model makes no masks, a class is unknown, ``out`` is of another run, or
            tiles and views that make no sense.
    """
    tiling = read_tiling(tile, overlap)
    if merge not in MERGES:
        raise ValueError(f'merge must be one of {MERGES}, got {merge!r}')
    given = [inputs] if isinstance(inputs, (str, Path)) else list(inputs)
    found, videos = find_inputs(given)
    outputs = Outputs(pictures, polygons, crops, tolerance, world_files)
    for picture in found if world_files else ():
        read_world_file(picture.path)  # a missing one is told now
    nms = dict(type=merge, iou_threshold=0.5)
    predictor: Any = Predictor(model, score, classes, batch_size, views, nms)
    if tiling is not None:
        predictor = TiledPredictor(predictor, tiling)
    if exclusive:
        predictor = ExclusivePredictor(predictor)
    if out is None:
        result = PredictionRun(None, videos=videos)
        for picture, _, prediction in _predicted(predictor, found, result.unreadable):
            result.predictions[picture.path] = prediction
            _count(result, predictor, prediction.labels)
        return result
    writer = _Writer(Path(out), predictor.classes, outputs)
    settings = {
        'pictures': value_digest([str(picture.path.resolve()) for picture in found]),
        'classes': list(predictor.classes),
        'score': score,
        'kept': None if classes is None else list(classes),
        'outputs': str(outputs),
        'views': str((tiling, views, merge, exclusive)),
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

    def __init__(self, out: Path, classes: Sequence[str], outputs: Outputs) -> None:
        self.out, self.classes, self.outputs = out, classes, outputs

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
        affine = read_world_file(picture.path) if self.outputs.world_files else None
        return {'image': image, 'objects': objects, 'affine': affine}

    def _write_picture(self, picture: Picture, pixels: np.ndarray, prediction: Prediction) -> None:
        if self.outputs.crops:
            self._write_crops(pixels, picture, prediction)
        if self.outputs.pictures:
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
        if self.outputs.polygons:
            tolerance = self.outputs.tolerance
            with atomic_file(self.out / 'polygons.json') as file:
                json.dump({**head, 'annotations': list(_annotations(entries(), tolerance))}, file)
            features = list(_features(entries(), self.classes, tolerance))
            with atomic_file(self.out / 'polygons.geojson') as file:
                json.dump({'type': 'FeatureCollection', 'features': features}, file)


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
