"""RoI masks to RLE against mmdet's paste and encode."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask
from mmdet.structures.mask import encode_mask_results
from torch import Tensor

from mmrefine.masks import roi_masks_to_rle, to_dense, trace

DEVICES = ['cpu', 'cuda'] if torch.cuda.is_available() else ['cpu']


def mmdet_rles(
    masks: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float, window: str
) -> list[dict]:
    """What mmdet's CPU path (window 'box') or CUDA path ('image') makes of the same masks."""
    height, width = size
    dense = torch.zeros((len(masks), height, width), dtype=torch.bool, device=masks.device)
    for one, mask, box in zip(dense, masks, boxes):
        if window == 'box':
            first, last = box[:2].floor().sub(1).clamp(min=0), box[2:].ceil().add(1)
            if not (first < torch.minimum(last, last.new_tensor([width, height]))).all():
                continue  # mmdet raises; nothing of such a box is visible
        soft, place = _do_paste_mask(mask[None, None], box[None], height, width, window == 'box')
        one[place] = (soft >= threshold)[0]
    return encode_mask_results(dense.cpu().numpy())


def smooth_masks(count: int, side: int, seed: int) -> Tensor:
    """Blobs with soft borders, like a trained head's: Tensor[N, S, S] probabilities."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 1, 5, 5, generator=generator) * 4
    return torch.nn.functional.interpolate(coarse, size=(side, side), mode='bicubic')[
        :, 0
    ].sigmoid()


def random_boxes(count: int, size: tuple[int, int], seed: int) -> Tensor:
    """Boxes of all sizes, many of them partly outside: Tensor[N, 4]."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, 2, generator=generator) * 1.4 - 0.2
    corners = corners.sort(dim=1).values * torch.tensor([size[1], size[0]])
    return corners.flatten(1)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('window', ['box', 'image'])
@pytest.mark.parametrize('side', [1, 2, 7, 28, 112])
def test_strings_equal_mmdets_for_smooth_masks(side: int, window: str, device: str) -> None:
    masks = smooth_masks(40, side, side).to(device)
    boxes = random_boxes(40, (150, 211), side).to(device)
    for threshold in (0.5, 0.3):
        ours = roi_masks_to_rle(masks, boxes, (150, 211), threshold, window=window)
        assert ours == mmdet_rles(masks, boxes, (150, 211), threshold, window)


coordinate = st.one_of(
    st.integers(-40, 80).map(float),
    st.integers(-160, 320).map(lambda v: v / 4),
    st.floats(-70, 130),
)
# Values that meet the threshold exactly, or nearly, are the hard ones.
value = st.one_of(
    st.sampled_from([0.0, 0.5, 1.0, 0.25, 0.49999997, 0.50000006]), st.floats(0, 1, width=32)
)


@st.composite
def one_mask(draw: st.DrawFn) -> tuple[Tensor, Tensor, tuple[int, int]]:
    side = draw(st.integers(1, 5))
    mask = draw(st.lists(value, min_size=side * side, max_size=side * side))
    box = draw(st.lists(coordinate, min_size=4, max_size=4))
    size = draw(st.integers(1, 60)), draw(st.integers(1, 60))
    return torch.tensor(mask).view(1, side, side), torch.tensor([box]), size


@settings(max_examples=400)
@given(one_mask(), st.sampled_from([0.5, 0.25, 0.9]), st.sampled_from(['box', 'image']))
@example((torch.full((1, 3, 3), 0.5), torch.tensor([[2.0, 3.0, 20.0, 30.0]]), (40, 30)), 0.5, 'box')
def test_strings_equal_mmdets_for_any_box(
    case: tuple[Tensor, Tensor, tuple[int, int]], threshold: float, window: str
) -> None:
    masks, boxes, size = case
    ours = roi_masks_to_rle(masks, boxes, size, threshold, window=window)
    assert ours == mmdet_rles(masks, boxes, size, threshold, window)


SPECIAL_BOXES = {
    'half outside': (-30.0, -20.0, 25.0, 30.0),
    'covers the image': (-9.0, -9.0, 100.0, 100.0),
    'exactly the image': (0.0, 0.0, 64.0, 48.0),
    'one pixel': (10.0, 11.0, 11.0, 12.0),
    'inside one pixel': (10.2, 11.1, 10.7, 11.9),
    'no width': (10.0, 11.0, 10.0, 30.0),
    'no width at a pixel centre': (10.5, 11.0, 10.5, 30.0),
    'a point': (10.0, 11.0, 10.0, 11.0),
    'thinner than a float can divide': (10.0, 11.0, 10.0 + 1e-6, 30.0),
    'slightly inverted': (11.0, 11.0, 10.6, 30.0),
    'inverted': (40.0, 11.0, 10.0, 30.0),
    'inverted twice': (40.0, 30.0, 10.0, 11.0),
    'left of the image': (-50.0, 5.0, -20.0, 20.0),
    'right of the image': (90.0, 5.0, 130.0, 20.0),
    'far away': (1e7, 1e7, 2e7, 2e7),
    'huge': (-1e7, -1e7, 1e7, 1e7),
}


@pytest.mark.parametrize('window', ['box', 'image'])
@pytest.mark.parametrize('name', SPECIAL_BOXES)
def test_strings_equal_mmdets_for_special_boxes(name: str, window: str) -> None:
    boxes = torch.tensor(SPECIAL_BOXES[name]).expand(4, 4)
    masks = torch.cat([smooth_masks(2, 14, 3), torch.ones(1, 14, 14), torch.rand(1, 14, 14)])
    ours = roi_masks_to_rle(masks, boxes, (48, 64), window=window)
    assert ours == mmdet_rles(masks, boxes, (48, 64), 0.5, window)


@pytest.mark.parametrize('width', [1e-6, 1e-5, 1e-4, 5e-4, 2e-3])
def test_strings_equal_mmdets_for_ever_thinner_boxes(width: float) -> None:
    x = torch.tensor([10.0, 10.5, 100.5, 1000.5])
    low, high = torch.full_like(x, 3.0), torch.full_like(x, 30.0)
    boxes = torch.stack([x - width / 2, low, x + width / 2, high], dim=1)
    masks = torch.full((4, 14, 14), 0.7)
    for window in ('box', 'image'):
        ours = roi_masks_to_rle(masks, boxes, (40, 1100), 0.3, window=window)
        assert ours == mmdet_rles(masks, boxes, (40, 1100), 0.3, window)


def test_half_logits_equal_mmdets_sigmoid_in_half() -> None:
    logits = (smooth_masks(12, 28, 1) * 8 - 4).half()
    boxes = random_boxes(12, (90, 120), 1)
    ours = roi_masks_to_rle(logits, boxes, (90, 120), logits=True)
    assert ours == mmdet_rles(logits.sigmoid().float(), boxes, (90, 120), 0.5, 'box')


def test_zero_logits_lie_exactly_on_the_threshold() -> None:
    boxes = random_boxes(6, (300, 400), 2)
    ours = roi_masks_to_rle(torch.zeros(6, 28, 28), boxes, (300, 400), logits=True)
    assert ours == mmdet_rles(torch.full((6, 28, 28), 0.5), boxes, (300, 400), 0.5, 'box')


@pytest.mark.parametrize('spread', [1e-7, 1e-6, 1e-5, 1e-4])
def test_rounding_decides_as_in_mmdet(spread: float) -> None:
    masks = 0.5 + spread * (torch.rand(8, 28, 28) - 0.5)
    boxes = random_boxes(8, (120, 160), 9)
    assert roi_masks_to_rle(masks, boxes, (120, 160)) == mmdet_rles(
        masks, boxes, (120, 160), 0.5, 'box'
    )


def test_noise_has_many_runs_in_every_column() -> None:
    masks, boxes = torch.rand(6, 28, 28), random_boxes(6, (120, 160), 4)
    for size in ((120, 160), (33, 40)):
        assert roi_masks_to_rle(masks, boxes, size) == mmdet_rles(masks, boxes, size, 0.5, 'box')


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    masks, boxes = smooth_masks(20, 28, 5), random_boxes(20, (150, 211), 5)
    masks[3] = 0.5
    whole = roi_masks_to_rle(masks, boxes, (150, 211))
    monkeypatch.setitem(trace.CHUNK, 'cpu', 1)
    monkeypatch.setitem(trace.POINTS, 'cpu', 7)
    assert roi_masks_to_rle(masks, boxes, (150, 211)) == whole


def test_a_one_pixel_image() -> None:
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [5.0, 5.0, 6.0, 6.0]])
    rles = roi_masks_to_rle(torch.ones(2, 28, 28), boxes, (1, 1))
    assert rles == mmdet_rles(torch.ones(2, 28, 28), boxes, (1, 1), 0.5, 'box')
    assert to_dense(rles).flatten().tolist() == [True, False]


def test_an_8k_image_needs_no_image_sized_memory() -> None:
    boxes = torch.tensor([[100.0, 50.0, 7900.0, 5900.0], [4000.5, 1.5, 4100.0, 5999.0]])
    masks = smooth_masks(2, 28, 6)
    ours = roi_masks_to_rle(masks, boxes, (6000, 8000))
    assert ours == mmdet_rles(masks, boxes, (6000, 8000), 0.5, 'box')


def test_no_masks_give_an_empty_list() -> None:
    assert roi_masks_to_rle(torch.zeros(0, 28, 28), torch.zeros(0, 4), (10, 12)) == []


def test_empty_masks_give_one_run_of_zeros() -> None:
    rles = roi_masks_to_rle(torch.zeros(2, 28, 28), random_boxes(2, (10, 12), 0), (10, 12))
    assert rles == encode_mask_results(torch.zeros(2, 10, 12).bool().numpy())


def test_gradients_and_boxes_are_left_alone() -> None:
    masks = torch.rand(2, 7, 7, requires_grad=True)
    boxes = random_boxes(2, (20, 20), 7)
    before = boxes.clone()
    roi_masks_to_rle(masks, boxes, (20, 20))
    assert torch.equal(boxes, before)


@pytest.mark.parametrize('bad', [float('nan'), float('inf')])
def test_boxes_that_are_not_finite_are_refused(bad: float) -> None:
    boxes = torch.tensor([[0.0, 0.0, 5.0, 5.0], [0.0, bad, 5.0, 5.0]])
    with pytest.raises(ValueError, match='box 1 of 2'):
        roi_masks_to_rle(torch.rand(2, 7, 7), boxes, (10, 10))


def test_masks_with_nan_are_refused() -> None:
    masks = torch.rand(3, 7, 7)
    masks[2, 3, 3] = float('nan')
    with pytest.raises(ValueError, match='mask 2 of 3'):
        roi_masks_to_rle(masks, random_boxes(3, (10, 10), 0), (10, 10))


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(boxes=torch.zeros(3, 4)), 'masks must have the shape'),
        (dict(masks=torch.zeros(2, 1, 7, 7)), 'masks must have the shape'),
        (dict(threshold=0.0), 'mask_thr_binary.* must be above 0, got 0.0'),
        (dict(window='none'), "window must be 'box' or 'image'"),
    ],
)
def test_wrong_arguments_are_named(kwargs: dict, message: str) -> None:
    usual = dict(masks=torch.zeros(2, 7, 7), boxes=torch.zeros(2, 4), image_size=(10, 10))
    with pytest.raises(ValueError, match=message):
        roi_masks_to_rle(**{**usual, **kwargs})
