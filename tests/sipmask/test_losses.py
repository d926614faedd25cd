"""Mask losses, against the dense formulas of the original."""

import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData

from mmrefine.sipmask.assembly import region_logits, region_values
from mmrefine.sipmask.cells import split_boxes
from mmrefine.sipmask.crop_split import crop_split, crop_split_gt
from mmrefine.sipmask.losses import mask_iou_loss, mask_iou_target, weighted_mask_loss

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
    regions = split_boxes(samples.bboxes / 2, SIZE, 2)
    inside = region_values(masks, samples.gt_inds, regions)
    loss = weighted_mask_loss(region_logits(basis, coeffs, regions), inside, regions, samples)
    expected = dense_loss(basis, coeffs, masks, samples)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    found = torch.autograd.grad(loss, (basis, coeffs))
    reference = torch.autograd.grad(expected, (basis, coeffs))
    torch.testing.assert_close(found, reference, rtol=1e-4, atol=1e-7)


def test_a_saturated_sigmoid_keeps_its_gradient():
    logits = torch.tensor([40.0], requires_grad=True)
    samples = InstanceData(bboxes=torch.tensor([[0.0, 0, 2, 2]]), weights=torch.ones(1))
    regions = split_boxes(samples.bboxes / 2, SIZE, 1)
    weighted_mask_loss(logits, torch.tensor([False]), regions, samples).backward()
    assert logits.grad == 1


def test_no_samples_give_zero_with_a_graph():
    basis, coeffs, masks, samples = scene(0)
    regions = split_boxes(samples.bboxes / 2, SIZE, 2)
    inside = region_values(masks, samples.gt_inds, regions)
    loss = weighted_mask_loss(region_logits(basis, coeffs, regions), inside, regions, samples)
    loss.backward()
    assert loss == 0
    assert basis.grad.eq(0).all()


def test_mask_overlap_counts_the_object_outside_the_box_too():
    _, _, masks, samples = scene(5)
    regions = split_boxes(samples.bboxes / 2, SIZE, 2)
    probs = torch.rand(sum(regions.areas))
    inside = region_values(masks, samples.gt_inds, regions)
    cells = masks.sum(dim=(1, 2))[samples.gt_inds]
    overlap, counts = mask_iou_target(probs, inside, regions, cells)
    start = 0
    for n, (rows, columns) in enumerate(regions.slices()):
        chosen = torch.zeros(SIZE, dtype=torch.bool)
        area = regions.areas[n]
        chosen[rows, columns] = probs[start : start + area].view(regions.shapes[n]) > 0.4
        start += area
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
