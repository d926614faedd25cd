"""Encoding, decoding and crops against pycocotools."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from mmrefine.masks import boxed_masks_to_rle, encode, to_dense
from mmrefine.masks.rle import toggles_to_rle


def coco_rles(masks: np.ndarray) -> list[dict]:
    return [coco_mask.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in masks]


@settings(max_examples=200)
@given(st.integers(0, 3), st.integers(1, 40), st.integers(1, 40), st.integers(0, 10_000))
def test_encode_and_decode_agree_with_pycocotools(n: int, h: int, w: int, seed: int) -> None:
    masks = np.random.default_rng(seed).random((n, h, w)) > 0.5
    assert encode(torch.from_numpy(masks)) == coco_rles(masks)
    assert np.array_equal(to_dense(encode(masks), (h, w)).numpy(), masks)


def test_encode_takes_zeros_and_ones_of_any_type() -> None:
    masks = np.random.default_rng(0).integers(0, 2, (2, 9, 7))
    for kind in (np.uint8, np.int64, np.float32, bool):
        assert encode(masks.astype(kind)) == coco_rles(masks)


def test_long_runs_need_many_characters() -> None:
    masks = np.zeros((3, 3000, 5000), dtype=bool)
    masks[1] = True
    masks[2, 17:2000, 40:4000] = True
    whole = boxed_masks_to_rle(torch.from_numpy(masks), [(0, 0)] * 3, (3000, 5000))
    assert whole == coco_rles(masks)


@settings(max_examples=200)
@given(
    st.integers(1, 12),
    st.integers(1, 12),
    st.integers(-15, 30),
    st.integers(-15, 30),
    st.integers(0, 99),
)
def test_crops_are_cut_at_the_image(h: int, w: int, x: int, y: int, seed: int) -> None:
    crop = np.random.default_rng(seed).random((h, w)) > 0.4
    large = np.zeros((80, 80), dtype=bool)
    large[y + 20 : y + 20 + h, x + 20 : x + 20 + w] = crop
    expected = coco_rles(large[None, 20:40, 20:45])
    crops = torch.from_numpy(crop)[None]
    assert boxed_masks_to_rle(list(crops), [(x, y)], (20, 25)) == expected
    assert boxed_masks_to_rle(crops, torch.tensor([[x, y]]), (20, 25)) == expected


def test_crops_of_different_sizes_keep_their_order() -> None:
    crops = [torch.ones(2, 3), torch.zeros(4, 4), torch.ones(0, 5), torch.ones(6, 1)]
    offsets = torch.tensor([[1, 1], [0, 0], [2, 2], [9, 0]])
    dense = to_dense(boxed_masks_to_rle(crops, offsets, (6, 10)))
    assert dense.flatten(1).sum(1).tolist() == [6, 0, 0, 6]
    assert dense[3, :, 9].all()


def test_boundaries_may_come_in_any_order_and_cancel() -> None:
    toggles = np.array([12, 3, 7, 7, 20, 5, 0, 4])
    owners = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    masks = to_dense(toggles_to_rle(toggles, owners, 4, (4, 5))).numpy()
    flat = masks.transpose(0, 2, 1).reshape(4, -1)
    assert [np.flatnonzero(row).tolist() for row in flat] == [
        list(range(3, 12)),
        list(range(5, 20)),
        [0, 1, 2, 3],
        [],
    ]


def test_to_dense_reads_every_form_of_rle() -> None:
    mask = np.random.default_rng(0).random((1, 6, 5)) > 0.5
    compressed = encode(mask)[0]
    as_text = dict(compressed, counts=compressed['counts'].decode())
    flat = mask[0].T.ravel()
    changes = np.flatnonzero(np.diff(flat, prepend=False, append=not flat[-1]))
    counts = np.diff(changes, prepend=0).tolist()
    plain = dict(size=[6, 5], counts=counts)
    for rle in (compressed, as_text, plain):
        assert np.array_equal(to_dense([rle]).numpy(), mask)


def test_to_dense_passes_tensors_on() -> None:
    masks = torch.rand(2, 4, 5) > 0.5
    assert torch.equal(to_dense(masks), masks)
    assert torch.equal(to_dense(masks.numpy(), (4, 5)), masks)
    assert to_dense(masks.byte()).dtype == torch.bool


def test_no_masks_need_the_image_size() -> None:
    assert to_dense([], (4, 5)).shape == (0, 4, 5)
    with pytest.raises(ValueError, match=r'pass image_size=\(h, w\)'):
        to_dense([])


def test_sizes_that_differ_are_refused() -> None:
    rles = encode(torch.ones(1, 4, 5)) + encode(torch.ones(1, 5, 4))
    with pytest.raises(ValueError, match='must all have the size'):
        to_dense(rles, (4, 5))
    with pytest.raises(ValueError, match='the image is'):
        to_dense(torch.ones(1, 4, 5), (5, 4))


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match='shape \\(N, h, w\\)'):
        encode(torch.ones(4, 5))
