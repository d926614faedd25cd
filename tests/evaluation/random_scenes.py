"""Random annotations and results with everything that evaluation rules treat apart."""

from typing import Any

import numpy as np
from evaluation.scenes import blob, shaken, text_rle
from pycocotools import mask as coco_mask

EDGES = (0, 1, 1024, 1025, 9216, 9217)  # areas at the limits of COCO's ranges


def mask(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    """An ellipse, a rectangle, noise, the whole picture or nothing."""
    kind = rng.choice(['blob', 'box', 'noise', 'all', 'none'], p=[0.6, 0.25, 0.05, 0.05, 0.05])
    if kind == 'blob':
        return blob(rng, h, w)
    out = np.zeros((h, w), np.uint8)
    if kind == 'box':
        y, x = rng.integers(0, h), rng.integers(0, w)
        out[y : y + rng.integers(1, h + 1), x : x + rng.integers(1, w + 1)] = 1
    elif kind == 'noise':
        out[:] = rng.random((h, w)) < 0.3
    elif kind == 'all':
        out[:] = 1
    return out


def segmentation(rng: np.random.Generator, pixels: np.ndarray) -> Any:
    """The mask as compressed or as plain run lengths; at times a polygon of random points."""
    rle = text_rle(pixels)
    kind = rng.random()
    if kind < 0.7:
        return rle
    if kind < 0.85:
        points = rng.random((int(rng.integers(3, 9)), 2)) * pixels.shape[::-1]
        return [np.round(points, 2).ravel().tolist()]
    flat = pixels.T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *edges, flat.size]).tolist()
    return {'size': rle['size'], 'counts': [0, *counts] if flat[0] else counts}


def box_of(rng: np.random.Generator, pixels: np.ndarray) -> list[float]:
    """The tight box, often shaken, at times without width."""
    x, y, w, h = coco_mask.toBbox(text_rle(pixels))
    if rng.random() < 0.6:
        x, y, w, h = np.round([x, y, w, h] + rng.normal(0, 2, 4), int(rng.integers(0, 3)))
    return [float(x), float(y), float(max(w, 0)), float(max(h, 0))]


def random_scene(rng: np.random.Generator, lvis: bool = False) -> tuple[dict, list[dict]]:
    """Annotation file, and results with box and mask.

    Ids have gaps and any order; scores tie; there are crowds, ignored objects, areas of 0 and at
    the limits, images and categories without objects or results, detections of what is absent.
    """
    ids = rng.permutation(50)
    categories = [
        {'id': int(i) + 1, 'name': f'c{i}', **({'frequency': 'rcf'[k % 3]} if lvis else {})}
        for k, i in enumerate(ids[: rng.integers(1, 6)])
    ]
    known = [c['id'] for c in categories]
    levels = np.round(rng.random(int(rng.integers(2, 30))), 2)
    truth: dict[str, Any] = {'images': [], 'annotations': [], 'categories': categories}
    results: list[dict] = []
    most = 140 if rng.random() < 0.2 else 60
    for i in rng.permutation(100)[: rng.integers(1, 9)]:
        h, w = int(rng.integers(1, most)), int(rng.integers(1, most))
        image = {'id': int(i), 'height': h, 'width': w}
        truth['images'].append(image)
        drawn = [mask(rng, h, w) for _ in range(int(rng.integers(0, 8)))]
        for pixels in drawn:
            category = int(rng.choice(known))
            truth['annotations'].append(_object(rng, truth, image, category, pixels, lvis))
            for _ in range(int(rng.integers(0, 4))):
                near = shaken(rng, pixels) if rng.random() < 0.8 else pixels
                given = category if rng.random() < 0.9 else int(rng.choice(known))
                results.append(_result(rng, image, given, near, levels))
        for _ in range(int(rng.integers(0, 4))):
            given = int(rng.choice(known))
            results.append(_result(rng, image, given, mask(rng, h, w), levels))
    if lvis:
        for image in truth['images']:
            image['neg_category_ids'] = [c for c in known if rng.random() < 0.3]
            image['not_exhaustive_category_ids'] = [c for c in known if rng.random() < 0.3]
    rng.shuffle(results)  # type: ignore[arg-type]
    rng.shuffle(truth['annotations'])
    return truth, results


def _object(
    rng: np.random.Generator,
    truth: dict,
    image: dict,
    category: int,
    pixels: np.ndarray,
    lvis: bool,
) -> dict:
    area = float(pixels.sum())
    if rng.random() < 0.15:
        area = float(rng.choice(EDGES))
    flags = {'ignore': int(rng.random() < 0.1)} if rng.random() < 0.5 else {}
    if not lvis:
        flags['iscrowd'] = int(rng.random() < 0.15)
    return {
        'id': len(truth['annotations']) + 1,
        'image_id': image['id'],
        'category_id': category,
        'area': area,
        'bbox': box_of(rng, pixels),
        'segmentation': segmentation(rng, pixels),
        **flags,
    }


def _result(
    rng: np.random.Generator, image: dict, category: int, pixels: np.ndarray, levels: np.ndarray
) -> dict:
    return {
        'image_id': image['id'],
        'category_id': category,
        'score': float(rng.choice(levels)),
        'bbox': box_of(rng, pixels),
        'segmentation': text_rle(pixels),
    }


def without(results: list[dict], key: str) -> list[dict]:
    """The results with box or mask left out."""
    return [{k: v for k, v in entry.items() if k != key} for entry in results]


def random_clips(rng: np.random.Generator) -> tuple[dict, list[dict]]:
    """YouTube-VIS annotation file and results; frames without the object, and empty masks."""
    categories = [{'id': int(i) + 1, 'name': f'c{i}'} for i in rng.permutation(9)[:3]]
    known = [c['id'] for c in categories]
    levels = np.round(rng.random(int(rng.integers(2, 30))), 2)
    truth: dict = {'videos': [], 'annotations': [], 'categories': categories}
    results: list[dict] = []
    for video in rng.permutation(20)[: rng.integers(1, 5)] + 1:
        h, w, length = int(rng.integers(1, 300)), int(rng.integers(1, 300)), int(rng.integers(1, 5))
        shape = {'id': int(video), 'height': h, 'width': w, 'length': length}
        truth['videos'].append(shape)
        for _ in range(int(rng.integers(1, 6))):
            masks = [mask(rng, h, w) if rng.random() < 0.8 else None for _ in range(length)]
            category = int(rng.choice(known))
            truth['annotations'].append(
                {
                    'id': len(truth['annotations']) + 1,
                    'video_id': int(video),
                    'category_id': category,
                    'iscrowd': int(rng.random() < 0.15),
                    'segmentations': [None if m is None else text_rle(m) for m in masks],
                    'areas': [None if m is None else int(m.sum()) for m in masks],
                }
            )
            for _ in range(int(rng.integers(0, 3))):
                moved = [
                    None if m is None or rng.random() < 0.1 else text_rle(shaken(rng, m))
                    for m in masks
                ]
                results.append(
                    {
                        'video_id': int(video),
                        'category_id': category if rng.random() < 0.9 else int(rng.choice(known)),
                        'score': float(rng.choice(levels)),
                        'segmentations': moved,
                    }
                )
    return truth, results
