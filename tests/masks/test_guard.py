"""Nothing that a file can hold as a mask brings pycocotools to crash or to invent pixels."""

import sys

import numpy as np
import pytest
import torch
from mmdet.structures.mask import PolygonMasks
from tiny_training import run

from mmrefine.masks import RLEMask, to_dense
from mmrefine.masks.run_lengths import to_counts
from mmrefine.refinemask.targets import foreground_union, multi_size_targets
from mmrefine.sharpmask.patch_dataset import segmentation_area
from mmrefine.sharpmask.patch_transforms import CropObjectPatch, label_of_polygons

# In a process of its own: a segmentation fault would end the tests.
FUZZ = """
import random, sys
import numpy as np
from mmrefine.masks import RLEMask, encode
from mmrefine.masks.run_lengths import pixel_counts, to_counts

rng = random.Random(int(sys.argv[1]))
ODD = [0, -1, 0.5, 2**31, 2**40, 10**400, 1e5, -1e12, 1e308, float('inf'), float('nan')]
ODD += [None, True, '7', [], {}, 'nan', b'1']
SIZES = [[9, 8], [8], [8, 9.0], [8, -9], [0, 0], 'ab', None, 2**40, [2**40, 9]]


def number():
    return rng.choice(ODD) if rng.random() < 0.02 else rng.uniform(-30, 60)


def real():
    mask = np.random.default_rng(rng.randrange(10**6)).random((1, 1, 8, 9)) > rng.random()
    rle = encode(mask[0])[0]
    return dict(rle, counts=rle['counts'].decode()) if rng.random() < 0.5 else rle


def damaged():
    rle = real()
    text, kind = rle['counts'], rng.randrange(6)
    letter = chr(rng.randrange(1, 128))
    at = rng.randrange(len(text) + 1)
    if isinstance(text, bytes):
        letter = letter.encode()
    if kind == 0:
        text = text[:at]
    elif kind == 1:
        text = text[:at] + letter + text[at:]
    elif kind == 2:
        text = text[:at] + letter + text[at + 1 :]
    elif kind == 3:
        text = letter * rng.choice([0, 1, 5, 5000])
    elif kind == 4:
        rle['size'] = rng.choice(SIZES)
    return dict(rle, counts=text)


def listed():
    counts = [rng.randrange(-1, 40) for _ in range(rng.randrange(6))]
    counts.append(72 - sum(counts) if rng.random() < 0.6 else rng.choice(ODD))
    return dict(size=[8, 9], counts=counts)


def polygons():
    return [[number() for _ in range(rng.randrange(12))] for _ in range(rng.randrange(3))]


def zigzag():
    return [[rng.choice([-1, 1]) * 9e3 for _ in range(2 * rng.randrange(600))]]


decoded = 0
for i in range(10_000):
    make = zigzag if i % 500 == 0 else rng.choice([real, damaged, damaged, listed, polygons])
    case = make() if rng.random() < 0.98 else rng.choice(ODD)
    try:
        rle = dict(size=[8, 9], counts=to_counts(case, (8, 9)))
    except ValueError:
        rle = None
    for form in (rle, case):
        if not isinstance(form, dict):
            continue
        try:
            dense = np.asarray(RLEMask(form))
        except ValueError:
            assert form is not rle, case
            continue
        if form is rle:
            assert dense.sum() == pixel_counts([rle['counts']])[0], case
            decoded += 1
print(decoded)
"""


def test_ten_thousand_random_masks_are_read_or_refused() -> None:
    decoded = int(run(sys.executable, '-W', 'ignore', '-c', FUZZ, '0').splitlines()[-1])
    assert 3000 < decoded < 8000


@pytest.mark.parametrize(
    'counts', ['5', '1' * 5000, '', 'e', 'e7Z', b'\x80', [80, 2], [-9, 90], [40.5, 40.5]]
)
def test_what_pycocotools_would_fill_with_rubbish_is_refused(counts: object) -> None:
    rle = {'size': [9, 9], 'counts': counts}
    for read in (
        lambda: to_counts(rle, (9, 9)),
        lambda: to_dense([rle]),
        lambda: np.asarray(RLEMask(rle)),
        lambda: segmentation_area(rle),
    ):
        with pytest.raises(ValueError, match='cannot be decoded to 9 x 9|do not add up to 9 x 9'):
            read()


def test_endless_outlines_are_refused() -> None:
    with pytest.raises(ValueError, match=r'polygon 0 has an outline of 3\.\S+ pixels, too long'):
        to_counts([[9e3, 9e3, -9e3, -9e3] * 500], (9, 9))


@pytest.mark.parametrize('far', [1e12, -1e12, float('nan'), float('inf')])
def test_training_targets_refuse_far_points(far: float) -> None:
    masks = PolygonMasks([[np.array([0, 0, 5, 0, far, 5])]], 9, 9)
    boxes, first = torch.tensor([[0.0, 0, 5, 5]]), torch.zeros(1, dtype=torch.long)
    with pytest.raises(ValueError, match='far outside of the image of 9 x 9'):
        multi_size_targets(boxes, first, masks, [14])
    with pytest.raises(ValueError, match='far outside of the image of 9 x 9'):
        foreground_union(masks)
    patch = dict(
        img=np.zeros((9, 9, 3), np.uint8),
        patch_crop=(0, 0, 9, 9),
        patch_head='mask',
        patch_segmentation=[[0, 0, 5, 0, far, 5]],
        patch_draw=0.9,
    )
    with pytest.raises(ValueError, match='far outside of the image|not a finite number'):
        CropObjectPatch(resample='official').transform(patch)


def test_labels_need_no_canvas_as_large_as_a_polygon() -> None:
    polygon = [[-9e3, -9e3, 40, 8, 8, 40]]
    label = label_of_polygons(polygon, np.array([0, 0]), 48, 160 / 192, 56)
    assert label.shape == (56, 56) and label.any()
