"""What is exported equals what the models compute, in torch."""

import pytest
import tiny_embedmask
import tiny_refinemask
import tiny_sharpmask
import torch
from mmdet.registry import MODELS
from tiny_export import refine_model, sharp_model, sip_model, window_model
from tiny_stock_models import tiny_stock_model
from torch import Tensor

from mmrefine.embedmask.postprocess import double_aligned
from mmrefine.export.parts import part_of, random_boxes
from mmrefine.export.pooling import check_extractor, pool
from mmrefine.sharpmask.roi_extractor import fpn_levels
from mmrefine.sipmask.assembly import pixel_logits

SIZE = (256, 320)


def rois_of(count: int) -> Tensor:
    """RoIs Tensor[count, 5] of sizes from a few pixels to the image."""
    boxes = random_boxes(count, SIZE)
    boxes[0, 2:] = boxes[0, :2] + 3
    return torch.cat([torch.zeros(count, 1), boxes], 1)


@torch.no_grad()
@pytest.mark.parametrize('kind', ['RefineMaskHead', 'SimpleRefineMaskHead'])
def test_refinemask(kind: str) -> None:
    model = refine_model(kind)
    maps, rois = model.extract_feat(torch.randn(1, 3, *SIZE)), rois_of(6)
    labels = torch.arange(6) % 3
    own = tiny_refinemask.probabilities(model.roi_head, maps, rois, labels)[:, 0]
    part = part_of(model)
    torch.testing.assert_close(part(*maps[:4], rois, labels), own, atol=1e-5, rtol=0)
    assert own.std() > 0.05


@torch.no_grad()
@pytest.mark.parametrize('agnostic', [False, True])
@pytest.mark.parametrize('choice', ['absolute', 'relative'])
def test_sharpmask_head(choice: str, agnostic: bool) -> None:
    model = sharp_model(choice, agnostic)
    images, rois, labels = torch.randn(2, 3, *SIZE), rois_of(6), torch.arange(6) % 3
    rois[3:, 0] = 1
    predicted = model.roi_head._mask_forward(model.extract_feat(images), rois)['mask_preds']
    own = predicted if agnostic else predicted[torch.arange(6), labels, None]
    found = part_of(model, with_backbone=True)(images, rois, labels)
    torch.testing.assert_close(found, own[:, 0].sigmoid(), atol=1e-5, rtol=0)
    assert own.std() > 0.05


@torch.no_grad()
@pytest.mark.parametrize('options', [{}, dict(center_pixels=False), dict(rescoring=True)])
def test_sipmask(options: dict) -> None:
    torch.manual_seed(0)
    model = sip_model(**options)
    part = part_of(model)
    inputs = part.example(5, SIZE)
    *maps, boxes, coeffs = inputs if len(part.object_names) == 2 else inputs[:-1]
    boxes[1] += 100  # leaves the image
    boxes[2, 2:] = boxes[2, :2]  # empty
    head = model.mask_head
    basis = head(maps)[0]
    size = tuple(basis.shape[1:])
    pixels = head.pixels(boxes, coeffs, size)
    probs = pixel_logits(basis, coeffs, pixels).sigmoid()
    found = part(*inputs)
    masks = found[0] if head.rescoring else found
    torch.testing.assert_close(masks, pixels.maps(probs, size), atol=1e-6, rtol=0)
    assert probs.std() > 0.05
    if head.rescoring:
        own = head.mask_scores(probs, pixels, size, inputs[-1])
        torch.testing.assert_close(found[1], own, atol=1e-6, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize('variant', tiny_embedmask.VARIANTS)
def test_embedmask(variant: str) -> None:
    model = tiny_embedmask.tiny_detector(variant).eval()
    part = part_of(model)
    inputs = part.example(5, SIZE)
    objects = dict(zip(part.object_names, inputs[-len(part.object_names) :]))
    boxes = objects.get('boxes', torch.zeros(5, 4))
    boxes[1] += 100
    head = model.mask_head
    pixels = head.training_map(head(inputs[: -len(objects)], model.bbox_head.position()))[0]
    own = head.output.soft_maps(pixels, objects['embeds'], objects['margins'], boxes)
    torch.testing.assert_close(part(*inputs), own, atol=1e-5, rtol=1e-5)
    assert own.std() > 0.05


@torch.no_grad()
@pytest.mark.parametrize('options', [{}, dict(refined=True), dict(refined=True, coarse=True)])
def test_windows(options: dict) -> None:
    model = window_model(**options)
    patches = torch.randn(3, 3, tiny_sharpmask.PATCH, tiny_sharpmask.PATCH)
    logits, scores = model._forward(patches)
    part = part_of(model)
    masks, found = part(*part.features(patches))
    torch.testing.assert_close(masks, logits.sigmoid())
    torch.testing.assert_close(found, scores.sigmoid())
    assert masks.std() > 0.01


def test_levels_are_those_of_fpn() -> None:
    extractor = refine_model('RefineMaskHead').roi_head.mask_roi_extractor
    low, sides = torch.rand(4000, 2) * 300, torch.rand(4000, 2) * 1200
    sides[:8] = 56.0 * 2 ** torch.arange(8.0)[:, None]  # exactly on the edges
    rois = torch.cat([torch.zeros(4000, 1), low, low + sides], 1)
    rois[:8, 1:] = torch.cat([torch.zeros(8, 2), sides[:8]], 1)
    own = extractor.map_roi_levels(rois, 4)
    assert torch.equal(fpn_levels(rois, extractor.finest_scale, 4), own)
    assert set(own.tolist()) == {0, 1, 2, 3}


def test_fixed_numbers_of_samples_pool_the_same() -> None:
    extractor = MODELS.build(
        dict(
            type='SingleRoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=2),
            out_channels=4,
            featmap_strides=[4, 8, 16],
        )
    )
    maps = [torch.randn(1, 4, 64 >> i, 80 >> i) for i in range(3)]
    rois = rois_of(9)
    torch.testing.assert_close(pool(extractor, maps, rois), extractor(maps, rois))


@pytest.mark.parametrize('shape', [(3, 5, 7), (0, 4, 6), (1, 1, 1), (2, 1, 9)])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_doubling_is_that_of_adet(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    from mmdet.models.utils import aligned_bilinear

    maps = torch.rand(shape).to(dtype)
    own = aligned_bilinear(maps[:, None].float(), 2)[:, 0]
    atol = 1e-6 if dtype == torch.float32 else 2**-8  # two roundings of numbers below 1
    doubled = double_aligned(maps, shape[1:])
    assert doubled.dtype == dtype
    torch.testing.assert_close(doubled.float(), own, atol=atol, rtol=0)


def test_what_has_no_graph_is_named() -> None:
    model = tiny_stock_model('mask_rcnn/mask-rcnn_r50_fpn_1x_coco')
    with pytest.raises(TypeError, match='MaskRCNN with FCNMaskHead has no mask head to export'):
        part_of(model)
    legacy = dict(type='RoIAlign', output_size=7, sampling_ratio=2, aligned=False)
    extractor = dict(type='SingleRoIExtractor', roi_layer=legacy, out_channels=4)
    with pytest.raises(ValueError, match='aligned=False.* cannot be exported'):
        check_extractor(MODELS.build(dict(extractor, featmap_strides=[4])))
    with pytest.raises(ValueError, match='GenericRoIExtractor cannot be exported'):
        generic = dict(extractor, type='GenericRoIExtractor', featmap_strides=[4, 8])
        check_extractor(MODELS.build(generic))
