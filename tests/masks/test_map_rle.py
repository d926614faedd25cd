"""Stride-map masks to RLE against interpolating, thresholding and encoding dense masks."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmrefine.masks import encode, map_masks, map_pixels, trace

DEVICES = ['cpu', 'cuda'] if torch.cuda.is_available() else ['cpu']
rle_masks = partial(map_masks, mask_format='rle')


def interpolated_rles(
    maps: Tensor,
    resized: tuple[int, int],
    image: tuple[int, int],
    threshold: float,
) -> list[dict]:
    dense = torch.zeros((len(maps), *image), dtype=torch.bool, device=maps.device)
    for one, soft in zip(dense, maps):
        large = F.interpolate(soft[None, None], size=resized, mode='bilinear')
        cut = large[0, 0, : image[0], : image[1]]
        one[: cut.shape[0], : cut.shape[1]] = cut > threshold
    return encode(dense)


def scene(count: int, size: tuple[int, int], seed: int) -> tuple[Tensor, list[Tensor], list]:
    """Soft blobs in boxes of a map, zero elsewhere: full maps, the crops, and their offsets."""
    generator = torch.Generator().manual_seed(seed)
    maps, crops, offsets = torch.zeros(count, *size), [], []
    for one in maps:
        ends = torch.rand(2, 2, generator=generator).sort(dim=0).values * torch.tensor(size)
        (top, left), (bottom, right) = ends.int().tolist()
        bottom, right = bottom + 1, right + 1
        coarse = torch.rand(1, 1, 4, 4, generator=generator)
        blob = F.interpolate(coarse, size=(bottom - top, right - left), mode='bilinear')[0, 0]
        one[top:bottom, left:right] = blob
        crops.append(blob)
        offsets.append((left, top))
    return maps, crops, offsets


SIZES = [
    ((40, 56), (80, 112), (78, 110)),  # stride 2, padding cut
    ((40, 56), (161, 230), (170, 240)),  # stride 4 and a scale factor; image larger than the map
    ((40, 56), (40, 56), (40, 56)),  # no resizing
    ((40, 56), (23, 31), (23, 31)),  # smaller than the map
    ((9, 1), (90, 10), (80, 10)),  # a map of one column
    ((1, 1), (30, 20), (30, 20)),
    ((13, 17), (31, 40), (31, 40)),
]


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize(('size', 'resized', 'image'), SIZES)
def test_strings_equal_the_dense_way(
    size: tuple, resized: tuple, image: tuple, device: str
) -> None:
    maps, crops, offsets = scene(30, size, 3)
    maps, crops = maps.to(device), [crop.to(device) for crop in crops]
    rest = dict(offsets=offsets, map_size=size)
    for threshold in (0.4, 0.5):
        expected = interpolated_rles(maps, resized, image, threshold)
        assert rle_masks(maps, resized, image, threshold) == expected
        assert rle_masks(crops, resized, image, threshold, **rest) == expected


value = st.one_of(st.sampled_from([0.0, 0.5, 1.0, 0.50000006]), st.floats(-2, 2, width=32))


@settings(max_examples=300)
@given(st.data())
def test_strings_equal_the_dense_way_for_any_map(data: st.DataObject) -> None:
    side = st.integers(1, 6)
    size = data.draw(side), data.draw(side)
    count = data.draw(st.integers(1, 3))
    number = count * size[0] * size[1]
    cells = data.draw(st.lists(value, min_size=number, max_size=number))
    maps = torch.tensor(cells, dtype=torch.float32).view(count, *size)
    length = st.integers(1, 90)
    resized, image = (data.draw(length), data.draw(length)), (data.draw(length), data.draw(length))
    ours = rle_masks(maps, resized, image, 0.5)
    assert ours == interpolated_rles(maps, resized, image, 0.5)


@pytest.mark.parametrize('scale', [(3.3, 1.71), (0.37, 2.0), (4.0, 2.5)])
def test_fractional_sizes_keep_the_exact_scale(scale: tuple) -> None:
    maps = scene(20, (40, 56), 5)[0]
    large = F.interpolate(maps[None], scale_factor=scale, mode='bilinear')[0]
    exact = 40 * scale[0], 56 * scale[1]
    image = tuple(large.shape[1:])
    assert rle_masks(maps, exact, image, 0.4) == encode(large > 0.4)
    assert torch.equal(map_masks(maps, exact, image, 0.4), large > 0.4)


def test_noise_maps_and_large_outputs() -> None:
    maps = torch.rand(5, 100, 130)
    expected = interpolated_rles(maps, (401, 522), (400, 520), 0.5)
    assert rle_masks(maps, (401, 522), (400, 520), 0.5) == expected


@pytest.mark.parametrize('spread', [1e-7, 1e-6, 1e-5, 1e-4])
def test_rounding_decides_as_in_interpolate(spread: float) -> None:
    maps = 0.5 + spread * (torch.rand(4, 40, 56) - 0.5)
    expected = interpolated_rles(maps, (123, 171), (120, 170), 0.5)
    assert rle_masks(maps, (123, 171), (120, 170), 0.5) == expected


@pytest.mark.parametrize(('second', 'calls'), [((20, 30), 1), ((4, 5), 2)])
def test_maps_share_the_call_that_decides_roundings(
    second: tuple, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps = torch.zeros(2, 32, 48)
    for one, (y, x) in zip(maps, [(2, 3), second]):
        # Rounding alone says whether these cells are above the threshold.
        one[y : y + 6, x : x + 6] = 0.5 + 1e-8 * torch.rand(6, 6)
    sizes = []
    operator = map_pixels.Resize.by_operator

    def counted(self: map_pixels.Resize, cells: Tensor, size: tuple) -> Tensor:
        sizes.append(tuple(size))
        return operator(self, cells, size)

    monkeypatch.setattr(map_pixels.Resize, 'by_operator', counted)
    ours = rle_masks(maps, (123, 171), (120, 170), 0.5)
    assert ours == interpolated_rles(maps, (123, 171), (120, 170), 0.5)
    assert sizes.count((123, 171)) == calls


def test_huge_values_in_one_map_leave_the_others_as_they_are() -> None:
    maps = scene(6, (40, 56), 9)[0]
    maps[2] *= 1e20
    maps[4] *= -1e30
    expected = interpolated_rles(maps, (123, 171), (120, 170), 0.5)
    assert rle_masks(maps, (123, 171), (120, 170), 0.5) == expected


def test_logarithmic_maps_with_a_negative_threshold() -> None:
    full = scene(10, (40, 56), 8)[0].log().clamp(min=-10)
    expected = interpolated_rles(full, (160, 224), (160, 220), -0.63488)
    assert rle_masks(full, (160, 224), (160, 220), -0.63488) == expected


def test_empty_inputs() -> None:
    assert rle_masks(torch.zeros(0, 4, 5), (8, 10), (8, 10), 0.5) == []
    assert rle_masks([], (8, 10), (8, 10), 0.5, offsets=[], map_size=(4, 5)) == []
    nothing = encode(torch.zeros(1, 8, 10))
    assert rle_masks(torch.zeros(1, 4, 5), (8, 10), (8, 10), 0.5) == nothing
    rest = dict(offsets=[(2, 2)], map_size=(4, 5))
    assert rle_masks([torch.zeros(0, 2)], (8, 10), (8, 10), 0.5, **rest) == nothing


def test_half_maps_are_resized_in_float32() -> None:
    maps = scene(4, (20, 20), 2)[0].half()
    expected = interpolated_rles(maps.float(), (80, 80), (80, 80), 0.5)
    assert rle_masks(maps, (80, 80), (80, 80), 0.5) == expected


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = scene(20, (40, 56), 5)[0]
    whole = rle_masks(maps, (161, 230), (161, 230), 0.5)
    monkeypatch.setitem(trace.CHUNK, 'cpu', 1)
    monkeypatch.setitem(trace.POINTS, 'cpu', 7)
    assert rle_masks(maps, (161, 230), (161, 230), 0.5) == whole


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(map_size=None), 'crops need map_size'),
        (dict(threshold=0.0), 'threshold above 0, got 0.0'),
        (dict(maps=[torch.full((2, 3), float('nan'))] * 2), 'NaN'),
    ],
)
def test_wrong_arguments_are_named(kwargs: dict, message: str) -> None:
    usual = dict(
        maps=[torch.ones(2, 3)] * 2,
        resized_size=(8, 10),
        image_size=(8, 10),
        threshold=0.5,
        offsets=[(0, 0), (1, 1)],
        map_size=(4, 5),
    )
    with pytest.raises(ValueError, match=message):
        rle_masks(**{**usual, **kwargs})


def test_full_maps_with_nan_are_refused() -> None:
    maps = torch.zeros(2, 4, 5)
    maps[1, 2, 2] = float('nan')
    with pytest.raises(ValueError, match='NaN'):
        rle_masks(maps, (8, 10), (8, 10), 0.5)
