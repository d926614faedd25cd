"""Evaluation never holds dense masks: its memory is that of the run-length strings."""

import subprocess
import sys
from pathlib import Path

import pytest

# Prints the peak in bytes. Dense, one mask alone would have 307,200.
SCRIPT = """
import resource, sys
import numpy as np
from mmrefine.evaluation import Detections, GroundTruth, evaluate, make_rules
from evaluation.scenes import text_rle
import cv2

images, per_image, protocol = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
h, w, categories = 480, 640, 80
rng = np.random.default_rng(0)
pool = []
for _ in range(300):
    mask = np.zeros((h, w), np.uint8)
    centre, axes = rng.integers(0, (w, h)), rng.integers(5, 90, 2)
    cv2.ellipse(mask, centre.tolist(), axes.tolist(), 30, 0, 360, 1, -1)
    mask[min(centre[1], h - 1), min(centre[0], w - 1)] = 1
    pool.append(text_rle(mask)['counts'].encode())
lvis = protocol != 'coco'
truth = {'images': [], 'annotations': [], 'categories': [
    {'id': c, 'name': str(c), 'frequency': 'rcf'[c % 3]} for c in range(categories)]}
for i in range(images):
    extra = {'neg_category_ids': list(range(0, categories, 4)), 'not_exhaustive_category_ids': []}
    truth['images'].append({'id': i, 'height': h, 'width': w, **extra})
    for k in rng.integers(0, len(pool), 7):
        rle = {'size': [h, w], 'counts': pool[k]}
        truth['annotations'].append({'image_id': i, 'category_id': int(k) % categories,
                                     'iscrowd': 0, 'segmentation': rle})
gt = GroundTruth.from_dict(truth, federated=lvis)
gt.require(masks=True)
count = images * per_image
rows = rng.integers(0, len(pool), count)
dt = Detections(
    np.repeat(np.arange(images), per_image).tolist(), (rows % categories).tolist(),
    rng.random(count), np.full((count, 4), np.nan),
    [bytes(bytearray(pool[k])) for k in rows],  # a string of its own each, as files give
)
evaluate(gt, dt, ['segm', 'boundary'], make_rules(protocol), sys.argv[4])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def peak(images: int, per_image: int, protocol: str, folder: Path) -> int:
    command = [sys.executable, '-c', SCRIPT, str(images), str(per_image), protocol, 'pycocotools']
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
    return int(run.stdout.split()[-1])


@pytest.mark.slow
@pytest.mark.parametrize(('per_image', 'protocol'), [(100, 'coco'), (300, 'lvis')])
def test_a_detection_costs_its_string_and_little_more(
    per_image: int, protocol: str, root: Path
) -> None:
    few, many = (peak(n, per_image, protocol, root / 'tests') for n in (100, 500))
    assert (many - few) / (400 * per_image) < 1500
