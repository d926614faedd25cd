"""Grids by size of the box: which box gets which, and that the masks are those of the full run."""

import pytest
import torch
from mmengine.structures import InstanceData
from tiny_refinemask import fused_masks, images, sample, tiny_detector, tiny_head
from torch import Tensor

from mmrefine.masks import to_dense
from mmrefine.refinemask.inference import GridPlan, InferenceSettings, refined_logits

KINDS = ['RefineMaskHead', 'SimpleRefineMaskHead']
STAGES = (14, 28, 56, 112)
# sides of 12, 34, 70 and 119 pixels
BOXES = [[8.0, 8.0, 20.0, 14.0], [3.0, 2.0, 122.0, 90.0], [50.0, 5.0, 90.0, 75.0]]
BOXES += [[20.0, 40.0, 54.0, 50.0]]


def boxes_of(sides: list[float]) -> Tensor:
    """RoIs of the given widths, half as high."""
    width = torch.tensor(sides)
    zero = torch.zeros_like(width)
    return torch.stack([zero, zero, zero, width, width / 2], 1)


def test_the_coarsest_sufficient_grid_is_chosen() -> None:
    sides = [0.0, 20.0, 28.0, 28.1, 56.0, 100.0, 112.5, 224.0, 900.0]
    plan = GridPlan.of_config(dict(finest=224), STAGES)
    chosen = [plan.sizes[i] for i in plan.choose(boxes_of(sides))]
    assert chosen == [28, 28, 28, 56, 56, 112, 224, 224, 224]
    plan = GridPlan.of_config({}, STAGES)
    assert [plan.sizes[i] for i in plan.choose(boxes_of(sides))] == [
        28, 28, 28, 56, 56, 112, 112, 112, 112,
    ]  # fmt: skip
    half = GridPlan.of_config(dict(cells_per_pixel=0.5), STAGES)
    assert [half.sizes[i] for i in half.choose(boxes_of(sides))] == [
        28, 28, 28, 28, 28, 56, 112, 112, 112,
    ]  # fmt: skip


def test_the_higher_side_counts_too() -> None:
    plan = GridPlan.of_config({}, STAGES)
    assert plan.choose(torch.tensor([[0.0, 5, 5, 10, 70]])).tolist() == [2]


@pytest.mark.parametrize(
    'config, message',
    [
        (dict(cells=1), 'takes cells_per_pixel and finest, got cells'),
        (True, 'must be a dict of cells_per_pixel and finest, got True'),
        (dict(cells_per_pixel='2'), "a number above 0, got '2'"),
        (dict(cells_per_pixel=None), 'a number above 0, got None'),
        (dict(finest='112'), "must be one of .*, got '112'"),
        (dict(cells_per_pixel=0), 'above 0, got 0'),
        (dict(cells_per_pixel=float('nan')), 'above 0, got nan'),
        (dict(finest=14), r'one of \(28, 56, 112, 224\), got 14'),
        (dict(finest=448), 'got 448'),
    ],
    ids=str,
)
def test_impossible_settings_are_refused(config: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GridPlan.of_config(config, STAGES)


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(mask_grids=dict(finest=448)), 'finest must be one of .* got 448'),
        (dict(mask_chunk=-1), 'mask_chunk must be a number of RoIs, got -1'),
        (dict(mask_dtype='half'), "mask_dtype must be one of .* got 'half'"),
    ],
    ids=str,
)
def test_impossible_settings_are_refused_before_the_training(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_detector(**options)


def by_size(head: torch.nn.Module, config: dict, arguments: tuple) -> dict[int, tuple]:
    """Side of a grid -> indices and logits."""
    settings = InferenceSettings(chunk=2, plan=GridPlan.of_config(config, head.stage_sizes))
    groups = head.fused_masks(*arguments, settings)
    return {group.logits.shape[-1]: (group.indices, group.logits) for group in groups}


def sized_inputs() -> tuple[Tensor, ...]:
    """Inputs of a head for boxes of all classes of size, in two images."""
    generator = torch.Generator().manual_seed(0)
    sides = torch.tensor([20.0, 120.0, 50.0, 27.0, 90.0, 40.0, 130.0])
    corner = torch.rand(7, 2, generator=generator) * 30
    rois = torch.cat([(torch.arange(7) % 2)[:, None], corner, corner + sides[:, None]], 1)
    feats = torch.randn(7, 16, 14, 14, generator=generator)
    fine = torch.randn(2, 16, 40, 44, generator=generator)
    return feats, fine, rois, torch.arange(7) % 3


@pytest.mark.parametrize('kind', KINDS)
def test_a_group_holds_what_the_full_run_has_at_its_stage(kind: str) -> None:
    head = tiny_head(kind).eval()
    arguments = sized_inputs()
    with torch.no_grad():
        stage_logits, _ = head(*arguments)
        found = by_size(head, {}, arguments)
    assert {size: indices.tolist() for size, (indices, _) in found.items()} == {
        28: [0, 3], 56: [2, 5], 112: [1, 4, 6],
    }  # fmt: skip
    for size, (indices, logits) in found.items():
        expected = refined_logits(stage_logits[: STAGES.index(size) + 1])[indices]
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('options', [{}, dict(pre_upsample_last_stage=True)], ids=str)
def test_the_extra_grid_changes_only_the_boundary(kind: str, options: dict) -> None:
    if kind == 'RefineMaskHead':
        options = dict(mask_use_sigmoid=not options)
    head = tiny_head(kind, **options).eval()
    arguments = sized_inputs()
    with torch.no_grad():
        coarse = by_size(head, dict(cells_per_pixel=100), arguments)[112][1]
        fine = by_size(head, dict(cells_per_pixel=100, finest=224), arguments)[224][1]
    assert fine.shape == (7, 1, 224, 224)
    enlarged = torch.nn.functional.interpolate(
        coarse, size=(224, 224), mode='bilinear', align_corners=True
    )
    same = (fine - enlarged).abs() < 1e-4
    assert 0 < int((~same).sum()) < 0.9 * same.numel()


@pytest.mark.parametrize('kind', KINDS)
def test_a_head_of_two_stages_has_one_grid_and_the_extra_one(kind: str) -> None:
    head = tiny_head(kind, stage_sup_size=[14, 28]).eval()
    with torch.no_grad():
        found = by_size(head, dict(finest=56), sized_inputs())
    assert {size: indices.tolist() for size, (indices, _) in found.items()} == {
        28: [0, 3], 56: [1, 2, 4, 5, 6],
    }  # fmt: skip


@pytest.mark.parametrize('classes', [1, 3])
@pytest.mark.parametrize('count', [0, 1, 4])
def test_detectors_keep_the_order_in_both_formats(classes: int, count: int) -> None:
    detector = tiny_detector(classes=classes, mask_grids=dict(finest=224)).eval()
    metas = [sample([]).metainfo, sample([]).metainfo]

    def predict(mask_format: str) -> list[InstanceData]:
        detector.roi_head.test_cfg.mask_format = mask_format
        boxes = torch.tensor(BOXES)
        first = InstanceData(bboxes=boxes[:count], labels=torch.arange(count) % classes)
        second = InstanceData(bboxes=boxes.flip(0), labels=torch.arange(4) % classes)
        with torch.no_grad():
            feats = detector.extract_feat(images(2))
            return detector.roi_head.predict_mask(feats, metas, [first, second], rescale=True)

    dense, coded = predict('dense'), predict('rle')
    for a, b, n in zip(dense, coded, (count, 4)):
        assert a.masks.shape == (n, 96, 128)
        assert torch.equal(a.masks, to_dense(b.masks, (96, 128)))
    for box, mask in zip(BOXES[::-1], dense[1].masks):
        x1, y1, x2, y2 = (int(v) for v in box)
        outside = mask.clone()
        outside[max(y1 - 1, 0) : y2 + 1, max(x1 - 1, 0) : x2 + 1] = False
        assert not outside.any()


def test_a_fine_enough_plan_changes_nothing() -> None:
    detector = tiny_detector().eval()
    rois = torch.cat([torch.zeros(4, 1), torch.tensor(BOXES)], 1)
    labels = torch.arange(4) % 3
    with torch.no_grad():
        x = detector.extract_feat(images(1))
        plain = fused_masks(detector.roi_head, x, rois, labels)[0].logits
        detector.roi_head.test_cfg.mask_grids = dict(cells_per_pixel=1e6)
        (group,) = fused_masks(detector.roi_head, x, rois, labels)
    assert group.indices.tolist() == [0, 1, 2, 3]
    assert torch.equal(group.logits, plain)


def test_reduced_precision_goes_with_it() -> None:
    detector = tiny_detector(mask_dtype='bfloat16', mask_grids={}).eval()
    rois = torch.cat([torch.zeros(4, 1), torch.tensor(BOXES)], 1)
    with torch.no_grad():
        x = detector.extract_feat(images(1))
        groups = fused_masks(detector.roi_head, x, rois, torch.arange(4) % 3)
    assert [group.indices.tolist() for group in groups] == [[0], [3], [1, 2]]
    assert all(group.logits.dtype == torch.float32 for group in groups)
