"""Boundary confidence: values that can be computed by hand, ranges, and its way into results."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.structures import InstanceData
from tiny_refinemask import BOXES, images, sample, tiny_detector

from mmrefine.layers import boundary_map
from mmrefine.refinemask.inference import boundary_confidence, stage_agreement

SURE, NO = 40.0, -40.0


def halves(side: int, left: float, right: float) -> torch.Tensor:
    """Logits of one RoI, two values side by side."""
    logits = torch.full((1, 1, side, side), right)
    logits[..., : side // 2] = left
    return logits


@pytest.mark.parametrize(
    'before, last, expected',
    [
        (SURE, SURE, 1.0),
        (NO, SURE, 0.0),
        (0.0, SURE, 0.5),
        (0.0, 0.0, 0.5),
        # p = 1/4, q = 3/4: 2 * 3/16
        (float(torch.tensor(0.75).logit()), float(torch.tensor(0.25).logit()), 0.375),
    ],
)
def test_agreement_is_the_chance_of_equal_draws(
    before: float, last: float, expected: float
) -> None:
    stages = [torch.zeros(1, 1, 7, 7), halves(14, before, before), halves(28, last, last)]
    agreement = stage_agreement(stages)
    torch.testing.assert_close(agreement, torch.full((1, 1, 28, 28), expected))


@pytest.mark.parametrize('side, width', [(7, 1), (14, 1), (28, 2), (56, 4), (112, 8), (224, 16)])
def test_only_the_band_counts(side: int, width: int) -> None:
    fused = halves(side, SURE, NO)
    band = boundary_map(fused >= 0, width)
    assert band.any() and not band.all()
    assert boundary_confidence(fused, torch.where(band, 0.75, 0.0)).tolist() == [0.75]
    assert boundary_confidence(fused, torch.where(band, 0.0, 1.0)).tolist() == [0.0]


def test_a_mask_without_pixels_is_trusted_in_nothing() -> None:
    logits = torch.cat([halves(28, NO, NO), halves(28, SURE, NO)])
    assert boundary_confidence(logits, torch.ones_like(logits)).tolist() == [0.0, 1.0]


@settings(max_examples=25)
@given(st.integers(0, 5), st.integers(0, 999), st.floats(0.01, 100))
def test_confidences_lie_between_zero_and_one(count: int, seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    stages = [scale * torch.randn(count, 1, s, s, generator=generator) for s in (14, 28)]
    agreement = stage_agreement(stages)
    found = boundary_confidence(stages[-1], agreement)
    assert found.shape == (count,) and agreement.shape == (count, 1, 28, 28)
    for values in (found, agreement):
        assert ((values >= 0) & (values <= 1 + 1e-6)).all()


def test_half_precision_logits_are_judged_in_fp32() -> None:
    stages = [torch.randn(2, 1, s, s).half() for s in (14, 28)]
    agreement = stage_agreement(stages)
    assert agreement.dtype == torch.float32
    torch.testing.assert_close(agreement, stage_agreement([s.float() for s in stages]))


def test_one_stage_has_nothing_to_agree_with() -> None:
    with pytest.raises(ValueError, match='two stages, got 1'):
        stage_agreement([torch.zeros(1, 1, 14, 14)])


def predict(count: int, **options: Any) -> list[InstanceData]:
    """Two images of ``count`` and two detections."""
    torch.manual_seed(0)
    detector = tiny_detector(boundary_confidence=True, **options).eval()
    metas = [sample([]).metainfo, sample([]).metainfo]
    detections = [
        InstanceData(
            bboxes=torch.tensor(BOXES)[:n], labels=torch.arange(n) % options.get('classes', 3)
        )
        for n in (count, 2)
    ]
    with torch.no_grad():
        feats = detector.extract_feat(images(2))
        return detector.roi_head.predict_mask(feats, metas, detections, rescale=True)


@pytest.mark.parametrize('count', [0, 1, 3])
@pytest.mark.parametrize(
    'options',
    [{}, dict(mask_format='rle'), dict(mask_grids={}), dict(classes=1)],
    ids=str,
)
def test_results_carry_confidences_of_every_instance(count: int, options: dict) -> None:
    results = predict(count, **options)
    for result, n in zip(results, (count, 2)):
        assert result.boundary_confidences.shape == (n,)
        assert 'boundary_maps' not in result
        assert ((result.boundary_confidences >= 0) & (result.boundary_confidences < 1)).all()
        assert len(result.masks) == n


@pytest.mark.parametrize('options', [{}, dict(mask_grids=dict(finest=56))], ids=str)
def test_maps_follow_the_grids_and_the_order(options: dict) -> None:
    results = predict(3, boundary_maps=True, **options)
    sides = [[112] * 3, [112] * 2] if not options else [[56, 56, 56], [56, 56]]
    for result, side in zip(results, sides):
        assert [tuple(m.shape) for m in result.boundary_maps] == [(s, s) for s in side]
    # a selection of detections takes its maps along
    assert len(results[0][1:].boundary_maps) == 2


def test_grids_by_size_keep_confidences_with_their_boxes() -> None:
    together = predict(3, mask_grids={})[0]
    torch.manual_seed(0)
    detector = tiny_detector(boundary_confidence=True, mask_grids={}).eval()
    with torch.no_grad():
        feats = detector.extract_feat(images(2))
        for index, box in enumerate(BOXES):
            alone = InstanceData(bboxes=torch.tensor([box]), labels=torch.tensor([index]))
            none = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
            metas = [sample([]).metainfo] * 2
            found = detector.roi_head.predict_mask(feats, metas, [alone, none])[0]
            torch.testing.assert_close(
                found.boundary_confidences[0], together.boundary_confidences[index]
            )


def test_the_field_is_absent_unless_asked_for() -> None:
    detector = tiny_detector().eval()
    with torch.no_grad():
        result = detector.predict(images(1), [sample(BOXES)])[0].pred_instances
    assert 'boundary_confidences' not in result and 'boundary_maps' not in result
