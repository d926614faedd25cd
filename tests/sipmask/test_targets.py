"""Half-resolution mask targets."""

import pytest
import torch
import torch.nn.functional as F
from mmdet.structures.mask import BitmapMasks

from mmrefine.sipmask.targets import half_masks

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
