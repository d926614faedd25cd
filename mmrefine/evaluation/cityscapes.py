"""Cityscapes instance AP through cityscapesScripts, and the same with Boundary IoU.

The official code reads the PNGs, matches and accumulates. For boundaries the overlap of each
prediction with each real instance is lowered to the boundary IoU before the official accumulation;
groups and small instances, which only excuse predictions, keep their pixels.
"""

import contextlib
import copy
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np

from mmrefine.masks.crops import Crop, crop_of
from mmrefine.results.cityscapes import CITYSCAPES_IDS
from mmrefine.results.log import log_warning
from mmrefine.results.progress import progress_bar

from .boundary import band_width, crop_iou, inner_band

SMALLEST = 100  # pixels; smaller instances count neither way (official value)


def import_engine() -> ModuleType:
    """The official evaluation module; ModuleNotFoundError says how to install it."""
    try:
        from cityscapesscripts.evaluation import evalInstanceLevelSemanticLabeling as engine
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'Cityscapes scores need the official code ({error}): pip install cityscapesscripts',
            name=error.name,
        ) from None
    from .numpy_names import supply  # imports all of MMDetection's metrics

    supply(engine)
    return engine


def check_types(iou_types: Iterable[str]) -> list[str]:
    """The IoU types, each once; ValueError for others than of masks."""
    iou_types = list(dict.fromkeys(iou_types))
    if not iou_types or set(iou_types) - {'segm', 'boundary'}:
        raise ValueError(f"Cityscapes scores masks only: 'segm', 'boundary'; got {iou_types}")
    return iou_types


def score_cityscapes(
    pairs: Iterable[tuple[Path, Path]],
    iou_types: Iterable[str] = ('segm', 'boundary'),
    dilation_ratio: float = 0.02,
    show_progress: bool = False,
) -> dict[str, float]:
    """Average precision of a txt + png tree.

    Args:
        pairs: Text file of the predictions and ``*_gtFine_instanceIds.png`` of every image.
            Predictions whose label id is no class with instances are left out, as by the official
            code; how many is logged.
        iou_types: ``'segm'`` and / or ``'boundary'``.
        dilation_ratio: Width of the boundary band over the image diagonal.

    Returns:
        ``<type>_AP``, ``<type>_AP50`` and ``<type>_AP/<class>``; 0-1, or -1 without ground truth.
    """
    iou_types = check_types(iou_types)
    pairs = [(Path(a).resolve(), Path(b).resolve()) for a, b in pairs]
    if not pairs:
        raise ValueError('there are no images to score')
    engine = import_engine()
    with tempfile.TemporaryDirectory() as scratch:
        args = _arguments(engine, Path(scratch) / 'gtInstances.json')
        matches: dict = {}
        left_out = 0
        with progress_bar('images', len(pairs), show_progress) as step:
            for prediction, truth in pairs:
                try:
                    matches[str(truth)], ignored = _match(engine, prediction, truth, args)
                except (OSError, SyntaxError) as error:  # Pillow's SyntaxError: a broken PNG
                    raise ValueError(
                        f'{prediction}: a PNG it lists, or {truth}, cannot be read ({error})'
                    ) from None
                left_out += ignored
                step()
    if left_out:
        log_warning(
            f'{left_out} predictions of label ids that are no class with instances were left out'
        )
    numbers: dict[str, float] = {}
    if 'segm' in iou_types:
        numbers.update(_averages(engine, matches, args, 'segm'))
    if 'boundary' in iou_types:
        with progress_bar('boundaries', len(matches), show_progress) as step:
            _lower_to_boundaries(matches, dilation_ratio, min(args.overlaps), step)
        numbers.update(_averages(engine, matches, args, 'boundary'))
    return numbers


def _match(engine: ModuleType, prediction: Path, truth: Path, args: Any) -> tuple[dict, int]:
    """Match one image as the official ``matchGtWithPreds``, but leave out, and count, predictions
    of unknown label ids.
    """
    # The official code refuses predictions outside this folder.
    args.predictionPath = str(prediction.parent)
    listed = engine.readPredInfo(str(prediction), args)
    known = {p: i for p, i in listed.items() if i['labelID'] in CITYSCAPES_IDS.values()}
    instances = engine.filterGtInstances(engine.instances2dict([str(truth)])[str(truth)], args)
    found = engine.assignGt2Preds(instances, engine.readGTImage(str(truth), args), known, args)
    return dict(zip(('groundTruth', 'prediction'), found)), len(listed) - len(known)


def _arguments(engine: ModuleType, cache: Path) -> Any:
    args = engine.CArgs()
    vars(args).update(vars(engine.args))
    args.quiet, args.JSONOutput, args.colorized = True, False, False
    args.predictionWalk = None
    args.gtInstancesFile = str(cache)
    engine.setInstanceLabels(args)
    return args


def _averages(engine: ModuleType, matches: dict, args: Any, iou_type: str) -> dict[str, float]:
    scores = _evaluate_matches(engine, matches, args)
    if np.isnan(scores).all():
        found: dict = {'allAp': math.nan, 'allAp50%': math.nan, 'classes': {}}
    else:
        with np.errstate(invalid='ignore'):
            found = engine.computeAverages(scores, args)
    numbers = {f'{iou_type}_AP': found['allAp'], f'{iou_type}_AP50': found['allAp50%']}
    for name in CITYSCAPES_IDS:
        numbers[f'{iou_type}_AP/{name}'] = found['classes'].get(name, {'ap': math.nan})['ap']
    return {name: -1.0 if math.isnan(value) else float(value) for name, value in numbers.items()}


def _evaluate_matches(engine: ModuleType, matches: dict, args: Any) -> np.ndarray:
    """AP of every class and threshold, array[1, classes, thresholds]; NaN without ground truth.

    The official code stops with an IndexError at a class of which objects exist, none is found and
    all predictions are excused (they lie in groups or void). Nothing is found there: 0.
    """
    try:
        return engine.evaluateMatches(matches, args)
    except IndexError:
        pass
    one = copy.copy(args)
    scores = np.zeros((1, len(args.instLabels), len(args.overlaps)))
    for i, label in enumerate(args.instLabels):
        for j, overlap in enumerate(args.overlaps):
            one.instLabels, one.overlaps = [label], [overlap]
            with contextlib.suppress(IndexError):
                scores[:, i, j] = engine.evaluateMatches(matches, one)[:, 0, 0]
    return scores


def _lower_to_boundaries(
    matches: dict, ratio: float, threshold: float, step: Callable[[], None]
) -> None:
    """Rewrite the stored intersections so that a pair's official IoU is its boundary IoU."""
    for truth_file, match in matches.items():
        truth = _read(truth_file, cv2.IMREAD_UNCHANGED)  # (h, w), instance ids
        width = band_width(truth.shape[:2], ratio)
        real: dict[int, Crop] = {}
        for label, predictions in match['prediction'].items():
            stored = {
                (instance['instID'], pair['predID']): pair
                for instance in match['groundTruth'][label]
                for pair in instance['matchedPred']
            }
            for prediction in predictions:
                for pair in _lower_one(prediction, truth, real, width, threshold):
                    # The official code keeps every pair twice and reads either copy.
                    other = stored[pair['instID'], prediction['predID']]
                    other['intersection'] = pair['intersection']
        step()


def _lower_one(
    prediction: dict, truth: np.ndarray, real: dict[int, Crop], width: int, threshold: float
) -> Iterator[dict]:
    """Lower and yield the pairs of a prediction that can count as matches.

    Below the lowest IoU threshold no boundary is needed, nor for groups and small instances, which
    only excuse predictions. ``real`` holds the bands of the instances met before.
    """
    band = None
    for pair in prediction['matchedGt']:
        both = pair['pixelCount'] + prediction['pixelCount']
        overlap = pair['intersection'] / (both - pair['intersection'])
        if pair['instID'] < 1000 or pair['pixelCount'] < SMALLEST or overlap <= threshold:
            continue
        if band is None:
            mask = _read(prediction['imgName'], cv2.IMREAD_GRAYSCALE)
            band = inner_band(crop_of(mask), width)
        if pair['instID'] not in real:
            real[pair['instID']] = inner_band(crop_of(truth == pair['instID']), width)
        overlap = min(overlap, crop_iou(band, real[pair['instID']]))
        pair['intersection'] = overlap * both / (1 + overlap)  # from IoU = I / (both - I)
        yield pair


def _read(path: str, mode: int) -> np.ndarray:
    image = cv2.imread(path, mode)
    if image is None:
        raise ValueError(f'{path} is no image')
    return image
