"""Mask targets, samples and losses, against the formulas of the original."""

import pytest
import torch
import torch.nn.functional as F
from benchmark.crop_split import crop_split, crop_split_gt
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData

from mmrefine.fcos import paired_iou
from mmrefine.sipmask.assembly import pixel_logits, pixel_values, split_boxes
from mmrefine.sipmask.losses import (
    half_masks,
    mask_iou_loss,
    mask_iou_target,
    select_samples,
    weighted_mask_loss,
)

SIZE = (24, 30)


def scene(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, InstanceData]:
    """Basis, coefficients, object masks and samples with boxes of input pixels."""
    basis = torch.rand(6, *SIZE, requires_grad=True)
    coeffs = torch.randn(count, 4, 6, requires_grad=True)
    masks = torch.rand(3, *SIZE) > 0.5
    corner = torch.rand(count, 2) * 40 - 4
    samples = InstanceData(
        bboxes=torch.cat((corner, corner + 4 + torch.rand(count, 2) * 30), dim=1),
        weights=torch.rand(count) * 2,
        gt_inds=torch.arange(count) % 3,
    )
    return basis, coeffs, masks, samples


def dense_loss(basis, coeffs, masks, samples):
    """The original: sigmoid maps of the whole image, crop, BCE, sum / w / h / n, weighted sum."""
    half = samples.bboxes / 2
    maps = torch.einsum('chw,nqc->qhwn', basis, coeffs).sigmoid()
    predicted = crop_split(maps, half)
    target = crop_split_gt(masks[samples.gt_inds].permute(1, 2, 0).float(), half)
    each = F.binary_cross_entropy(predicted, target, reduction='none').sum(dim=(0, 1))
    width, height = (half[:, 2:] - half[:, :2]).unbind(dim=1)
    return (samples.weights * each / width / height / len(samples)).sum()


def test_value_and_gradient_equal_the_dense_formula():
    basis, coeffs, masks, samples = scene(12)
    pixels = split_boxes(samples.bboxes / 2, SIZE, 2)
    inside = pixel_values(masks, samples.gt_inds, pixels)
    loss = weighted_mask_loss(pixel_logits(basis, coeffs, pixels), inside, pixels, samples)
    expected = dense_loss(basis, coeffs, masks, samples)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    found = torch.autograd.grad(loss, (basis, coeffs))
    reference = torch.autograd.grad(expected, (basis, coeffs))
    torch.testing.assert_close(found, reference, rtol=1e-4, atol=1e-7)


def test_a_saturated_sigmoid_keeps_its_gradient():
    logits = torch.tensor([40.0], requires_grad=True)
    samples = InstanceData(bboxes=torch.tensor([[0.0, 0, 2, 2]]), weights=torch.ones(1))
    pixels = split_boxes(samples.bboxes / 2, SIZE, 1)
    weighted_mask_loss(logits, torch.tensor([False]), pixels, samples).backward()
    assert logits.grad == 1


def test_no_samples_give_zero_with_a_graph():
    basis, coeffs, masks, samples = scene(0)
    pixels = split_boxes(samples.bboxes / 2, SIZE, 2)
    inside = pixel_values(masks, samples.gt_inds, pixels)
    loss = weighted_mask_loss(pixel_logits(basis, coeffs, pixels), inside, pixels, samples)
    loss.backward()
    assert loss == 0
    assert basis.grad.eq(0).all()


def test_mask_overlap_counts_the_object_outside_the_box_too():
    _, _, masks, samples = scene(5)
    pixels = split_boxes(samples.bboxes / 2, SIZE, 2)
    probs = torch.rand(len(pixels.box))
    inside = pixel_values(masks, samples.gt_inds, pixels)
    cells = masks.sum(dim=(1, 2))[samples.gt_inds]
    overlap, counts = mask_iou_target(probs, inside, pixels, cells)
    for n, chosen in enumerate(pixels.maps(probs, SIZE) > 0.4):
        mask = masks[samples.gt_inds[n]]
        inter = (chosen & mask).sum()
        expected = inter / (chosen.sum() + mask.sum() - inter + 0.1)
        torch.testing.assert_close(overlap[n], expected)
        assert bool(counts[n]) == bool(expected > 0.1)


def test_small_objects_do_not_count_and_nothing_counted_is_zero():
    overlap = torch.tensor([0.5, 0.3])
    assert mask_iou_loss(torch.ones(2), overlap, torch.zeros(2)) == 0
    found = mask_iou_loss(torch.ones(2), overlap, torch.tensor([1.0, 0]))
    torch.testing.assert_close(float(found), 0.25 / 1.1)


GT = torch.tensor([[10.0, 10, 50, 50], [60, 20, 100, 90]])


def positives(boxes: list[list[float]], owners: list[int], scores: list[float]) -> InstanceData:
    return InstanceData(
        bboxes=torch.tensor(boxes).view(-1, 4),
        gt_inds=torch.tensor(owners, dtype=torch.long),
        scores=torch.tensor(scores),
        coeffs=torch.arange(len(boxes)).float(),
    )


GOOD = positives(
    [[12, 8, 52, 48], [58.0, 22, 98, 95], [10, 10, 50, 50]], [0, 1, 0], [0.2, 0.5, 0.9]
)


@pytest.mark.parametrize('offset', [0.0, 1.0])
def test_weights_are_score_times_overlap_with_mean_one(offset):
    samples = select_samples(GOOD, GT, iou_offset=offset)
    merit = GOOD.scores * paired_iou(GT[GOOD.gt_inds] / 2, GOOD.bboxes / 2, offset)
    torch.testing.assert_close(samples.weights, merit / (merit.sum() + 1e-4) * 3)
    assert abs(float(samples.weights.mean()) - 1) < 1e-3


def test_small_and_inverted_boxes_are_dropped():
    found = positives(
        [[10.0, 10, 12, 11.9], [50, 50, 10, 10], [30, 10, 10, 50], [10, 10, 50, 50]],
        [0, 0, 0, 0],
        [0.5] * 4,
    )
    assert select_samples(found, GT).coeffs.tolist() == [3]
    assert select_samples(found, GT, keep_inverted=True).coeffs.tolist() == [1, 3]


def test_suppression_filters_after_the_weights_and_keeps_the_order():
    near = positives(
        [[10.0, 10, 50, 50], [10, 10, 50, 50.5], [60, 20, 100, 90]], [0, 0, 1], [0.3, 0.8, 0.5]
    )
    everything = select_samples(near, GT)
    kept = select_samples(near, GT, nms_threshold=0.9)
    assert kept.coeffs.tolist() == [1, 2]
    assert torch.equal(kept.weights, everything.weights[1:])


def test_no_overlap_at_all_gives_zero_weights_not_nan():
    far = positives([[200.0, 200, 220, 220]], [0], [0.5])
    for eps in (1e-4, 0.0):
        assert select_samples(far, GT, weight_eps=eps).weights.tolist() == [0.0]


@pytest.mark.parametrize('threshold', [None, 0.9])
def test_no_positives_stay_none(threshold):
    samples = select_samples(GOOD[:0], GT, nms_threshold=threshold)
    assert len(samples) == 0
    assert samples.weights.shape == (0,)


CPU = torch.device('cpu')


@pytest.mark.parametrize('size', [(8, 12), (7, 12), (9, 5)])
def test_cells_hold_the_majority_of_their_pixels(size):
    masks = torch.rand(20, *size) > 0.4
    padded = F.pad(masks, (0, size[1] % 2, 0, size[0] % 2)).float()
    expected = F.avg_pool2d(padded[:, None], 2)[:, 0] > 0.5
    found = half_masks(masks, tuple(expected.shape[1:]), CPU)
    assert torch.equal(found, expected)


def test_odd_sides_of_the_image_stretch_with_the_parity_switch():
    masks = torch.rand(20, 16, 16) > 0.4
    image = masks[:, :9, :11]
    expected = F.interpolate(image[None].float(), (4, 5), mode='bilinear', align_corners=False)
    found = half_masks(masks, (8, 8), CPU, image_size=(9, 11))
    assert torch.equal(found[:, :4, :5], expected[0] > 0.5)
    assert not found[:, 4:].any()
    assert not found[:, :, 5:].any()


def test_the_canvas_pads_and_cuts():
    masks = torch.ones(1, 8, 8, dtype=torch.bool)
    assert half_masks(masks, (6, 2), CPU)[0].sum(dim=0).tolist() == [4, 4]


def test_mmdet_masks_and_no_masks_are_accepted():
    array = (torch.rand(2, 6, 6) > 0.5).numpy().astype('uint8')
    found = half_masks(BitmapMasks(array, 6, 6), (3, 3), CPU)
    assert torch.equal(found, half_masks(torch.from_numpy(array), (3, 3), CPU))
    assert half_masks(torch.zeros(0, 6, 6), (3, 3), CPU).shape == (0, 3, 3)
