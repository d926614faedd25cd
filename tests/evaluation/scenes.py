"""Made-up annotations and results for the evaluation tests."""

from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

NAMES = ('ant', 'bee', 'cat')


def text_rle(mask: np.ndarray) -> dict[str, Any]:
    """RLE as a result file holds it."""
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {'size': list(rle['size']), 'counts': rle['counts'].decode('ascii')}


def blob(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    """A random ellipse, sometimes with a hole, sometimes over the image border."""
    mask = np.zeros((h, w), np.uint8)
    centre = (int(rng.integers(0, w)), int(rng.integers(0, h)))
    axes = (int(rng.integers(2, max(3, w // 3))), int(rng.integers(2, max(3, h // 3))))
    angle = float(rng.uniform(0, 180))
    cv2.ellipse(mask, centre, axes, angle, 0, 360, 1, -1)
    if rng.random() < 0.3:
        cv2.ellipse(mask, centre, (axes[0] // 2, axes[1] // 2), angle, 0, 360, 0, -1)
    mask[centre[1], centre[0]] = 1
    return mask


def shaken(rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    """The mask moved, grown or shrunk a little."""
    h, w = mask.shape
    x, y = rng.integers(-3, 4, 2)
    moved = cv2.warpAffine(mask, np.float32([[1, 0, x], [0, 1, y]]), (w, h))
    kernel = np.ones((3, 3), np.uint8)
    return (cv2.dilate, cv2.erode)[int(rng.integers(2))](moved, kernel)


def make_scene(
    seed: int, images: int = 12, lvis: bool = False, crowds: bool = True
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Annotation file and results (masks only), with category and image ids that have gaps."""
    rng = np.random.default_rng(seed)
    categories = [{'id': 2 * i + 3, 'name': name} for i, name in enumerate(NAMES)]
    truth: dict[str, Any] = {'images': [], 'annotations': [], 'categories': categories}
    results = []
    for number in range(images):
        h, w = int(rng.integers(40, 130)), int(rng.integers(40, 130))
        image = {'id': 7 * number + 5, 'height': h, 'width': w}
        truth['images'].append(image)
        for _ in range(int(rng.integers(0, 7))):
            mask = blob(rng, h, w)
            category = categories[int(rng.integers(3))]['id']
            crowd = int(crowds and rng.random() < 0.1)
            truth['annotations'].append(_annotation(truth, image, category, mask, crowd))
            for _ in range(int(rng.integers(0, 3))):
                results.append(_result(rng, image, category, shaken(rng, mask)))
        for _ in range(int(rng.integers(0, 3))):
            category = categories[int(rng.integers(3))]['id']
            results.append(_result(rng, image, category, blob(rng, h, w)))
    if lvis:
        _federate(rng, truth)
    return truth, [r for r in results if coco_mask.area(r['segmentation']) > 0]


def _annotation(truth: dict, image: dict, category: int, mask: np.ndarray, crowd: int) -> dict:
    rle = text_rle(mask)
    return {
        'id': len(truth['annotations']) + 1,
        'image_id': image['id'],
        'category_id': category,
        'iscrowd': crowd,
        'area': float(mask.sum()),
        'bbox': coco_mask.toBbox(rle).tolist(),
        'segmentation': rle,
    }


def _result(rng: np.random.Generator, image: dict, category: int, mask: np.ndarray) -> dict:
    # two digits, so that equal scores occur
    score = round(float(rng.uniform(0.01, 1)), 2)
    return {
        'image_id': image['id'],
        'category_id': category,
        'score': score,
        'segmentation': text_rle(mask),
    }


def _federate(rng: np.random.Generator, truth: dict) -> None:
    for frequency, category in zip('rcf', truth['categories']):
        category['frequency'] = frequency
    for annotation in truth['annotations']:
        annotation['iscrowd'] = 0
    for image in truth['images']:
        present = {a['category_id'] for a in truth['annotations'] if a['image_id'] == image['id']}
        others = [c['id'] for c in truth['categories'] if c['id'] not in present]
        image['neg_category_ids'] = [c for c in others if rng.random() < 0.5]
        image['not_exhaustive_category_ids'] = [c for c in present if rng.random() < 0.4]


def reference_band(mask: np.ndarray, width: int) -> np.ndarray:
    """By definition: the mask minus ``width`` 3 x 3 erosions on a zero-padded frame."""
    padded = np.pad(mask.astype(np.uint8), 1)
    eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=width)
    return (padded - eroded)[1:-1, 1:-1]
