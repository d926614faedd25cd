"""Evaluation: Boundary AP against the reference's formulation, and the engines against each other.

The boundary peer follows boundary-iou-api from its definition: every annotation and every result is
decoded to the whole frame, eroded d times with a 3x3 square on a zero-padded copy, subtracted and
encoded again; COCOeval then takes the smaller of the two IoU matrices. boundary-iou-api spreads the
encoding over all cores: the peer does it once on one core and once, by the wall clock, on all. The
other peers are pycocotools and, for LVIS, the lvis package as they are.
"""

import contextlib
import copy
import functools
import io
import itertools
import logging
import multiprocessing
import os
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmrefine.evaluation import GroundTruth, evaluate, load_results, make_rules

from .harness import Row, compare

IMAGES = 300
SIZE = (480, 640)
CATEGORIES = 20
OBJECTS = 7
FALSE_ALARMS = 39
NAMES = (
    'AP',
    'AP50',
    'AP75',
    'AP_s',
    'AP_m',
    'AP_l',
    'AR1',
    'AR10',
    'AR100',
    'AR_s',
    'AR_m',
    'AR_l',
)
LVIS_NAMES = ('AP', 'AP50', 'AP75', 'APr', 'APc', 'APf')


def draw(rng: np.random.Generator, centre: np.ndarray, radius: float) -> np.ndarray:
    """A star-shaped blob: uint8 array[h, w]."""
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    radii = radius * rng.uniform(0.6, 1.4, 24)
    points = centre + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
    mask = np.zeros(SIZE, np.uint8)
    cv2.fillPoly(mask, [points.round().astype(np.int32)], 1)
    mask[int(centre[1]), int(centre[0])] = 1
    return mask


def text_rle(mask: np.ndarray) -> dict[str, Any]:
    """RLE as in a result file."""
    rle = coco_mask.encode(np.asfortranarray(mask))
    return {'size': list(rle['size']), 'counts': rle['counts'].decode('ascii')}


def make_data(images: int = IMAGES) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Annotations (7 an image) and results (60: three about each object, the others false)."""
    rng = np.random.default_rng(0)
    h, w = SIZE
    truth: dict[str, Any] = {'images': [], 'annotations': []}
    truth['categories'] = [
        {'id': c, 'name': f'class {c}', 'frequency': 'rcf'[c % 3]} for c in range(1, CATEGORIES + 1)
    ]
    results = []
    for image in range(1, images + 1):
        # The first five categories are never present, but looked for in every image.
        federated = {'neg_category_ids': [1, 2, 3, 4, 5], 'not_exhaustive_category_ids': [6, 7]}
        truth['images'].append({'id': image, 'height': h, 'width': w, **federated})
        for _ in range(OBJECTS):
            category = int(rng.integers(6, CATEGORIES + 1))
            centre, radius = rng.uniform((0, 0), (w, h)), float(np.exp(rng.uniform(2, 4.8)))
            seed = int(rng.integers(1 << 30))
            mask = draw(np.random.default_rng(seed), centre, radius)
            truth['annotations'].append(
                {
                    'id': len(truth['annotations']) + 1,
                    'image_id': image,
                    'category_id': category,
                    'iscrowd': 0,
                    'area': int(mask.sum()),
                    'bbox': coco_mask.toBbox(text_rle(mask)).tolist(),
                    'segmentation': text_rle(mask),
                }
            )
            for spread in (1, 3, 9):
                moved = np.clip(centre + rng.normal(0, spread, 2), 0, (w - 1, h - 1))
                size = radius * float(rng.normal(1, 0.02 * spread))
                found = draw(np.random.default_rng(seed), moved, size)
                results.append(_result(rng, image, category, found))
        for _ in range(FALSE_ALARMS):
            centre = rng.uniform((0, 0), (w, h))
            mask = draw(rng, centre, float(np.exp(rng.uniform(2, 4.8))))
            results.append(_result(rng, image, int(rng.integers(1, CATEGORIES + 1)), mask))
    return truth, results


def _result(
    rng: np.random.Generator, image: int, category: int, mask: np.ndarray
) -> dict[str, Any]:
    score = float(rng.uniform(0.001, 1))
    entry = {'image_id': image, 'category_id': category, 'score': score}
    return {**entry, 'segmentation': text_rle(mask)}


class WholeFrameBoundaryEval(COCOeval):
    """Boundary IoU by the reference's formulation."""

    def computeIoU(self, imgId: int, catId: int) -> Any:
        """The smaller of mask and boundary IoU."""
        ious = super().computeIoU(imgId, catId)
        gts, dts = self._gts[imgId, catId], self._dts[imgId, catId]
        if len(gts) == 0 or len(dts) == 0:
            return ious
        order = np.argsort([-d['score'] for d in dts], kind='mergesort')
        crowd = [int(g['iscrowd']) for g in gts]
        bands = coco_mask.iou([dts[i]['band'] for i in order], [g['band'] for g in gts], crowd)
        return np.where(np.array(crowd, bool), ious, np.minimum(ious, bands))


def band_of(rle: dict[str, Any]) -> dict[str, Any]:
    """Band inside the outline of a mask, RLE to RLE."""
    width = max(1, int(round(0.02 * float(np.hypot(*SIZE)))))
    mask = coco_mask.decode(rle)
    padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=width)
    return coco_mask.encode(np.asfortranarray(mask - eroded[1:-1, 1:-1]))


def add_bands(api: COCO, cores: int) -> None:
    """Encode the band of every annotation."""
    rles = [api.annToRLE(annotation) for annotation in api.anns.values()]
    if cores == 1:
        bands = map(band_of, rles)
    else:
        with multiprocessing.get_context('fork').Pool(cores) as pool:
            bands = pool.map(band_of, rles, chunksize=256)
    for annotation, band in zip(api.anns.values(), bands):
        annotation['band'] = band


def coco_numbers(truth: dict, results: list, boundary: bool, cores: int = 1) -> dict[str, float]:
    """pycocotools, with the reference's bands if asked for."""
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = copy.deepcopy(truth)
        gt.createIndex()
        dt = gt.loadRes([dict(r) for r in results])
        if boundary:
            add_bands(gt, cores)
            add_bands(dt, cores)
        run = (WholeFrameBoundaryEval if boundary else COCOeval)(gt, dt, 'segm')
        run.evaluate()
        run.accumulate()
        run.summarize()
    return dict(zip(NAMES, run.stats.tolist()))


def our_numbers(
    truth: dict, results: list, iou_type: str, backend: str, protocol: str = 'coco'
) -> dict[str, float]:
    """The package's evaluation of the same parsed files."""
    gt = GroundTruth.from_dict(truth, federated=protocol != 'coco')
    rules = make_rules(protocol)
    found = evaluate(gt, load_results(results, gt), [iou_type], rules, backend).numbers
    return {name.partition('_')[2]: value for name, value in found.items()}


def lvis_numbers(truth: dict, results: list) -> dict[str, float]:
    """The lvis package."""
    from lvis import LVIS, LVISEval, LVISResults

    from mmrefine.evaluation import numpy_names  # noqa: F401  (for its np.float)

    logging.getLogger('lvis').setLevel(logging.ERROR)
    gt = LVIS.__new__(LVIS)
    gt.logger, gt.dataset = logging.getLogger('lvis'), copy.deepcopy(truth)
    gt._create_index()
    run = LVISEval(gt, LVISResults(gt, [dict(r) for r in results]), 'segm')
    run.run()
    found = run.get_results()
    return {name: float(found[name]) for name in LVIS_NAMES}


def bench_evaluation(device: str, quick: bool = False) -> Iterator[Row]:
    """B6 on generated pictures; it always runs on the processor."""
    backends = ['pycocotools', *(name for name in ('vernier',) if find_spec(name))]
    images = 3 if quick else IMAGES
    truth, results = make_data(images)
    size = f'{images} x 480x640, {len(truth["annotations"])} objects, {len(results)} results'
    cores = os.cpu_count() or 1
    for backend, used in itertools.product(backends, sorted({1, cores})):
        suffix = f', wall clock, peer on {used} cores' if used > 1 else ''
        yield compare(
            'B6',
            f'boundary AP, {backend}{suffix}; {size}',
            functools.partial(our_numbers, truth, results, 'boundary', backend),
            functools.partial(coco_numbers, truth, results, boundary=True, cores=used),
            tolerance=1e-9,
            repeats=1,
            memory=False,
            wall=used > 1,
        )
    for backend in backends:
        yield compare(
            'B6',
            f'mask AP, {backend}; peer pycocotools',
            functools.partial(our_numbers, truth, results, 'segm', backend),
            functools.partial(coco_numbers, truth, results, boundary=False),
            tolerance=1e-9,
            memory=False,
        )
        yield compare(
            'B6',
            f'LVIS mask AP, {backend}; peer lvis',
            functools.partial(our_lvis_numbers, truth, results, backend),
            functools.partial(lvis_numbers, truth, results),
            tolerance=1e-9,
            memory=False,
        )


def our_lvis_numbers(truth: dict, results: list, backend: str) -> dict[str, float]:
    """The package's LVIS evaluation, with the numbers that both sides report."""
    numbers = our_numbers(truth, results, 'segm', backend, 'lvis')
    return {name: numbers[name] for name in LVIS_NAMES}


BENCHMARKS = {'B6': bench_evaluation}
