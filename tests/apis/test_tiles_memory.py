"""Memory of tiles follows the tile: measured in a process of its own on pictures of two sizes."""

import json
import sys
from pathlib import Path

import pytest
from locations import ROOT
from tiny_training import run

# Squares, and a frame around the picture, which no tile holds. The stub's own memory is a tile's.
SCRIPT = """
import gc, json, tracemalloc
import cv2, numpy as np
from mmrefine.apis.predictor import Prediction
from mmrefine.apis.tiles import TiledPredictor
from mmrefine.apis.tiling import Tiling
from mmrefine.masks import encode
from pycocotools import mask as coco_mask


class Bright:
    classes, reads_arrays = ('square', 'frame'), True

    def __call__(self, pictures):
        for picture in pictures:
            count, numbers = cv2.connectedComponents(picture[..., 0])
            rles = [encode((numbers == n)[None])[0] for n in range(1, count)]
            rles += encode((picture[..., 1] > 0)[None]) if picture[..., 1].any() else []
            labels = np.array([0] * (count - 1) + [1])[:len(rles)]
            boxes, scores = coco_mask.toBbox(rles).reshape(-1, 4), np.full(len(rles), 0.9)
            yield Prediction(numbers.shape, boxes, scores, labels, rles)


def picture(side):
    pixels = np.zeros((side, side, 3), np.uint8)
    pixels[...] = 0, 0, 1  # in memory now, not when it is read
    for y, x in np.ndindex(side // 256, side // 256):
        pixels[256 * y + 80 : 256 * y + 180, 256 * x + 60 : 256 * x + 200, 0] = 255
    for edge in (pixels[:20], pixels[-20:], pixels[:, :20], pixels[:, -20:]):
        edge[..., 1] = 255
    return pixels


def kilobytes(name):
    return int(open('/proc/self/status').read().split(name + ':')[1].split()[0])


def predicted(pixels):
    (found,) = TiledPredictor(Bright(), Tiling((256, 256), 64))([pixels])
    return sum(found.labels == 0), sum(found.labels == 1)


def resident(side):
    pixels = picture(side)
    gc.collect()
    before = kilobytes('VmRSS')
    open('/proc/self/clear_refs', 'w').write('5')  # the peak so far is forgotten
    objects = predicted(pixels)
    return list(map(int, objects)), (kilobytes('VmHWM') - before) / 1024


def traced(side):
    pixels = picture(side)
    tracemalloc.start()
    predicted(pixels)
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    return peak


resident(512)
print(json.dumps([[*resident(side), traced(side)] for side in (512, 4096)]))
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='reads the peak from /proc')
def test_memory_does_not_grow_with_the_picture(tmp_path: Path) -> None:
    """Of 48 MiB, half would show another copy of the picture or a mask that is decoded whole."""
    (tmp_path / 'measure.py').write_text(SCRIPT)
    printed = run('python', 'measure.py', folder=tmp_path, PYTHONPATH=str(ROOT))
    small, large = json.loads(printed.splitlines()[-1])
    assert small[0] == [4, 1] and large[0] == [256, 1]
    assert large[1] - small[1] < 24
    assert large[2] - small[2] < 24
