"""Masks on pictures: from files to predictions, or to a folder of drawings and lists."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import nn

from mmrefine.results.files import value_digest
from mmrefine.results.image_files import read_picture
from mmrefine.results.log import log_warning
from mmrefine.results.progress import progress_bar
from mmrefine.results.resume_log import ResumeLog

from .exclusive import exclusive_masks
from .inputs import Picture, find_inputs, read_world_file, refuse_inputs_in
from .load_model import model_digest
from .picture_pipeline import PictureError
from .prediction_files import PredictionFiles
from .predictor import Prediction, Predictor, batches
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
        videos: Videos among the inputs, which ``predict_video`` takes.
    """

    out: Path | None
    predictions: dict[Path, Prediction] = field(default_factory=dict)
    objects: Counter = field(default_factory=Counter)
    pictures: int = 0
    unreadable: list[str] = field(default_factory=list)
    videos: list[Path] = field(default_factory=list)

    def count(self, names: Iterable[str]) -> None:
        """Count one more picture, with objects of these classes."""
        self.pictures += 1
        self.objects.update(names)

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
    tile: int | tuple[int, int] | None = None,
    overlap: int | None = None,
    views: Sequence[View] | None = None,
    merge: str = 'nms',
    exclusive: bool = False,
    tolerance: float = 0.0,
    world_files: bool = False,
    show_progress: bool = False,
) -> PredictionRun:
    """Put masks on pictures.

    Args:
        model: From ``mmrefine.load_model`` or ``mmdet.apis.init_detector``.
        inputs: Pictures, folders, patterns or lists, see ``find_inputs``.
        out: Folder for ``pictures/``, ``predictions.json`` (COCO results), ``images.json`` (their
            pictures and categories); a stopped run of the same model and arguments goes on there,
            files of a finished one stay if none of the same name is written. None returns the
            predictions.
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

    Raises:
        FileNotFoundError: An input leads to no file.
        ValueError: The model makes no masks, a class is unknown, ``out`` is of another run or holds
            inputs, or options that make no sense.
    """
    tiling = read_tiling(tile, overlap)
    if merge not in MERGES:
        raise ValueError(f'merge must be one of {MERGES}, got {merge!r}')
    if not 0 <= tolerance < math.inf:
        raise ValueError(f'tolerance must be a number of pixels, 0 or more, got {tolerance}')
    if (tolerance or world_files) and not polygons:
        raise ValueError('tolerance and world_files are options of polygons: ask for them too')
    found, videos = find_inputs([inputs] if isinstance(inputs, (str, Path)) else list(inputs))
    for picture in found if world_files else ():
        read_world_file(picture.path)  # a missing one is told now
    nms = dict(type=merge, iou_threshold=0.5)
    whole = Predictor(model, score, classes, batch_size, views, nms)
    predictor = whole if tiling is None else TiledPredictor(whole, tiling)
    batch_size = batch_size if tiling is None else 1  # there it counts tiles
    names = predictor.classes
    result = PredictionRun(None if out is None else Path(out), videos=videos)
    if result.out is None:
        predicted = _predicted(predictor, found, batch_size, exclusive, result.unreadable)
        for picture, _, prediction in predicted:
            result.predictions[picture.path] = prediction
            result.count(names[label] for label in prediction.labels.tolist())
        return result
    written = (pictures, polygons, crops, tolerance, world_files)
    files = PredictionFiles(result.out, names, *written)
    for folder in files.folders():
        refuse_inputs_in(folder, [picture.path for picture in found])
    settings = {
        'model': model_digest(model),
        'pictures': value_digest([str(picture.path.resolve()) for picture in found]),
        'classes': list(names),
        'score': score,
        'kept': None if classes is None else list(classes),
        'outputs': str(written),
        'views': str((tiling, views, merge, exclusive)),
    }
    if (result.out / 'images.json').exists():
        log_warning(f'{result.out} holds an earlier run, of which pictures and crops may stay')
    with closing(ResumeLog(result.out / 'run.log', settings)) as log:
        done = log.done()
        todo = {picture: i for i, picture in enumerate(found) if i not in done}
        predicted = _predicted(predictor, todo, batch_size, exclusive, result.unreadable)
        with progress_bar('pictures', len(todo), show_progress) as step:
            for picture, pixels, prediction in predicted:
                files.write_picture(picture, pixels, prediction)
                number = todo[picture]
                log.add(number, [(None, files.entry(number, picture, prediction))])
                step()
        for entry in log.results():
            result.count(names[label] for label, *_ in entry['objects'])
        files.write_lists(log.results)
    log.path.unlink()
    return result


def _predicted(
    predictor: Predictor | TiledPredictor,
    pictures: Iterable[Picture],
    batch_size: int,
    exclusive: bool,
    unreadable: list[str],
) -> Iterator[tuple[Picture, np.ndarray, Prediction]]:
    """Predict what can be read, with its pixels; the others are told in ``unreadable``."""
    # Drawings and crops show what the model saw, as the config's loader reads it.
    read = read_picture if predictor.reads_arrays else predictor.read
    for batch in batches(_readable(pictures, read, unreadable), batch_size):
        for picture, pixels, found in _batch(predictor, batch, unreadable):
            yield picture, pixels, exclusive_masks(found) if exclusive else found


def _batch(
    predictor: Predictor | TiledPredictor,
    batch: list[tuple[Picture, np.ndarray]],
    unreadable: list[str],
) -> Iterator[tuple[Picture, np.ndarray, Prediction]]:
    """Predict a batch, after an error picture by picture: the error then names its own."""
    given = [pixels if predictor.reads_arrays else picture.path for picture, pixels in batch]
    try:
        found = list(predictor(given))
    except ValueError as error:
        if len(batch) > 1:
            for one in batch:
                yield from _batch(predictor, [one], unreadable)
            return
        path = str(batch[0][0].path)
        text = str(error) if path in str(error) else f'{path}: {error}'
        if not isinstance(error, PictureError):
            raise ValueError(text) from error
        unreadable.append(text)
    else:
        yield from ((*pair, prediction) for pair, prediction in zip(batch, found))


def _readable(
    pictures: Iterable[Picture], read: Callable[[Path], np.ndarray], unreadable: list[str]
) -> Iterator[tuple[Picture, np.ndarray]]:
    for picture in pictures:
        try:
            pixels = read(picture.path)
        except (OSError, ValueError) as error:
            unreadable.append(str(error))
        else:
            yield picture, pixels
