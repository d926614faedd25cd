"""Run-length strings are read as pycocotools reads them, and damaged ones are recognised."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask

from mmrefine.masks.run_lengths import pixel_counts, read_runs, to_counts, undecodable

masks = hnp.arrays(
    np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40)), elements=st.integers(0, 1)
)


def encode(mask: np.ndarray) -> bytes:
    return coco_mask.encode(np.asfortranarray(mask))['counts']


@given(st.lists(masks, max_size=5))
def test_runs_rebuild_the_masks(found: list[np.ndarray]) -> None:
    strings = [encode(m) for m in found]
    runs, starts, readable = read_runs(strings)
    assert readable.all() and len(starts) == len(found) + 1
    for i, mask in enumerate(found):
        own = runs[starts[i] : starts[i + 1]]
        flat = np.repeat(np.arange(len(own)) % 2, own)
        np.testing.assert_array_equal(flat.reshape(mask.shape[::-1]).T, mask)
    np.testing.assert_array_equal(pixel_counts(strings), [int(m.sum()) for m in found])
    assert len(undecodable(strings, [m.shape for m in found])) == 0


def test_long_runs_of_large_images_are_read() -> None:
    mask = np.zeros((4000, 5000), np.uint8)
    mask[:, 100:4900] = 1
    runs, _, _ = read_runs([encode(mask)])
    assert runs.tolist() == [400_000, 19_200_000, 400_000]


@pytest.mark.parametrize('damage', [b'', b'\x80', b'!!', b'e7Z', b'oooooooooo1'])
def test_a_damaged_string_is_found_and_leaves_its_neighbours_alone(damage: bytes) -> None:
    good = encode(np.eye(9, dtype=np.uint8))
    found = undecodable([good, damage, good], [(9, 9)] * 3)
    assert found == [1]


def test_a_string_of_another_image_size_does_not_fit() -> None:
    good = encode(np.eye(9, dtype=np.uint8))
    assert undecodable([good, good], [(9, 9), (8, 10)]) == [1]


@pytest.mark.parametrize(
    ('segmentation', 'reason'),
    [
        ([[1, 2, 3, 4]], 'polygon 0 has 2 points'),
        ([[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5]], 'polygon 1 has 5 coordinates: one of a pair'),
        ([[0, 0, 5, 0, float('nan'), 5]], 'not a finite number'),
        ([1, 2, 3, 4, 5, 6], 'expected a list of polygons'),
        ([], 'expected polygons or an RLE'),
        ({'size': [9, 8], 'counts': 'e7'}, 'the image is'),
        ({'counts': 'e7'}, 'expected "size" and "counts"'),
        ({'size': [9, 9], 'counts': [10, 5]}, 'do not add up'),
        ({'size': [9, 9], 'counts': 'é'}, 'no run-length string'),
        ({'size': None, 'counts': 'e7'}, r'the size None, the image is \[9, 9\]'),
        ({'size': 81, 'counts': 'e7'}, 'the size 81, the image is'),
        ({'size': [9, None], 'counts': 'e7'}, r'the size \[9, None\], the image is'),
        ({'size': [9, 9], 'counts': None}, 'counts are None: expected a string or a list'),
        ({'size': [9, 9], 'counts': [80, None]}, 'expected a string or a list of run lengths'),
        ({'size': [9, 9], 'counts': []}, 'do not add up'),
        ([[0, 0, 5, 0, None, 5]], 'polygon 0 has a coordinate that is not a finite number'),
        ([[0, 0, 5, 0, '5', 5]], 'not a finite number'),
        ([[0, 0, 5, 0, -1e9, 5]], r'coordinate -1e\+09, far outside of the image of 9 x 9'),
        (
            [[1, 1, 5, 5], [], [1, 1e9, 1], [0, 0, 5, 0, 5, 5]],
            r'polygon 2 has the coordinate 1e\+09',
        ),
        ([[[0, 0], [5, 0], [5, 5], [4, 6], [3, 6], [0, 5]]], 'not a finite number'),
        ([[[0, 0], [5, 0], 5, 5, 0, 5]], 'not a finite number'),
    ],
)
def test_what_is_no_mask_is_refused(segmentation: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        to_counts(segmentation, (9, 9))


def test_all_forms_of_a_mask_give_the_same_counts() -> None:
    mask = np.zeros((9, 9), np.uint8)
    mask[2:5, 3:7] = 1
    counts = encode(mask)
    listed = [29, 3, 6, 3, 6, 3, 6, 3, 22]
    assert to_counts({'size': [9, 9], 'counts': listed}, (9, 9)) == counts
    assert to_counts({'size': [9, 9], 'counts': counts.decode()}, (9, 9)) == counts
    assert to_counts([[3, 2, 7, 2, 7, 5, 3, 5]], (9, 9)) == counts
