"""Patches as the Torch7 code makes them, against its rules written out pixel by pixel."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from mmrefine.sharpmask.patch_transforms import (
    CropObjectPatch,
    cut_square,
    label_of_polygons,
    scale_square,
    whole_crop,
)


def scale_row(row: np.ndarray, size: int) -> np.ndarray:
    """``image.scale`` of one row: overlaps of output and input pixels, or aligned corners."""
    if size >= len(row):
        return np.interp(np.arange(size) * (len(row) - 1) / (size - 1), np.arange(len(row)), row)
    step = len(row) / size
    edges = np.arange(len(row))
    out = []
    for i in range(size):
        low, high = np.maximum(edges, i * step), np.minimum(edges + 1, (i + 1) * step)
        share = np.maximum(high - low, 0)
        out.append((share * row).sum() / share.sum())
    return np.array(out)


@pytest.mark.parametrize('side', [12, 13, 17, 30, 9, 5])
def test_squares_are_averaged_when_they_shrink(side: int) -> None:
    image = np.random.default_rng(side).uniform(0, 255, (side, side)).astype(np.float32)
    rows = np.stack([scale_row(row, 12) for row in image])
    expected = np.stack([scale_row(column, 12) for column in rows.T], axis=1)
    np.testing.assert_allclose(scale_square(image, 12), expected, atol=1e-3)
    coloured = np.repeat(image[..., None], 3, 2)
    np.testing.assert_allclose(scale_square(coloured, 12)[..., 1], expected, atol=1e-3)


def test_averages_keep_less_texture_than_samples() -> None:
    """Neighbour differences of noise: 1.6 times the variance at 460 -> 192 without averaging."""
    image = np.random.default_rng(0).integers(0, 256, (460, 460, 3), np.uint8)
    results = dict(
        img=image,
        patch_crop=(0.0, 0.0, 460.0, 460.0),
        patch_segmentation=None,
        patch_draw=0.9,
        patch_head='mask',
    )
    variances = []
    for resample in ('corners', 'official'):
        patch = CropObjectPatch(resample=resample)(dict(results))['img'].astype(float)
        variances.append(np.diff(patch, axis=1).var())
    assert variances[0] > 2 * variances[1]


def test_crops_are_whole_pixels_and_grey_outside() -> None:
    image = np.arange(30, dtype=np.uint8).reshape(5, 6)
    corner, side = whole_crop(np.array([-1.4, 2.6, 4.4, 4.4]), image.shape, framed=True)
    assert corner.tolist() == [-1, 3] and side == 4
    cut = cut_square(image, corner, side, 0.5)
    grey = [0.5] * 4
    assert cut.tolist() == [[0.5, 18, 19, 20], [0.5, 24, 25, 26], grey, grey]
    assert (cut_square(image, np.array([9, 9]), 3, 0.5) == 0.5).all()


def test_score_crops_count_their_centre_from_one() -> None:
    # imgPad:narrow(2, y, isz) on an image padded by isz / 2: 0-based, y - 1 - floor(isz / 2)
    corner, side = whole_crop(np.array([20.0, 10.0, 13.5, 13.5]), (40, 60), framed=False)
    assert side == 13
    assert corner.tolist() == [int(26.75) - 1 - 6, int(16.75) - 1 - 6]
    # the centre is kept inside the image, counted from 1
    corner, _ = whole_crop(np.array([-40.0, -40.0, 13.5, 13.5]), (40, 60), framed=False)
    assert corner.tolist() == [1 - 1 - 6, 1 - 1 - 6]


@pytest.mark.parametrize(('corner', 'side'), [((30, 20), 96), ((-20, -35), 150), ((60, 50), 41)])
def test_labels_are_rasterised_at_their_own_size(corner: tuple, side: int) -> None:
    """cropMask: polygons scaled to the label, drawn on the scaled image, cut, one pixel late."""
    polygons = [
        [40.0, 30.5, 90.2, 35.0, 80.0, 88.1, 45.3, 70.0],
        [95.0, 40.0, 110.0, 42.0, 100.0, 60.0],
    ]
    height, width, share, size = 120, 130, 160 / 192, 56
    window = side * share
    scale = size / window
    scaled = [(np.array(one) * scale).tolist() for one in polygons]
    parts = coco_mask.frPyObjects(scaled, int(height * scale), int(width * scale))
    image = coco_mask.decode(coco_mask.merge(parts))
    left, top = (
        int(np.floor((start + 1 + side / 2 - window / 2) * scale + 0.5)) for start in corner
    )
    expected = cut_square(image, np.array([left, top]), size, 0)
    label = label_of_polygons(polygons, np.array(corner), side, share, size)
    assert label.shape == (size, size) and label.any()
    assert (label == expected).all()


def test_unknown_resampling_is_refused() -> None:
    with pytest.raises(ValueError, match="resample must be 'corners' or 'official', got 'area'"):
        CropObjectPatch(resample='area')
