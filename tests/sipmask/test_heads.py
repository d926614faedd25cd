"""Detection head and mask head on their own."""

import pytest
import torch
from mmengine.structures import InstanceData
from tiny_sipmask import NORM, tiny_detector

from mmrefine.sipmask.box_head import SipMaskBBoxHead
from mmrefine.sipmask.mask_head import SipMaskHead

SMALL = {
    'num_classes': 3,
    'in_channels': 32,
    'feat_channels': 32,
    'stacked_convs': 2,
    'num_bases': 8,
    'norm_cfg': NORM,
}
META = {'img_shape': (64, 64), 'ori_shape': (64, 64), 'scale_factor': (1.0, 1.0)}
TEST = {
    'nms_pre': 100,
    'score_thr': 0.05,
    'nms': {'type': 'greedy', 'iou_threshold': 0.5},
    'max_per_img': 9,
}


def pyramid(images: int = 2) -> list[torch.Tensor]:
    return [torch.randn(images, 32, side, side) for side in (16, 8, 4, 2, 1)]


def test_both_heads_compile_as_one_graph():
    box, mask = SipMaskBBoxHead(**SMALL), SipMaskHead(32, mid_channels=16, num_bases=8)
    feats = pyramid()
    outputs = torch.compile(box, fullgraph=True, backend='eager')(feats)
    expected = box(feats)
    for ours, reference in zip(outputs.classes, expected.classes):
        assert torch.equal(ours, reference)
    basis = torch.compile(mask, fullgraph=True, backend='eager')(outputs.features)
    assert torch.equal(basis, mask(expected.features))
    sum(level.sin().sum() for level in outputs.classes).backward()
    assert box.feat_align.conv_offset.weight.grad.abs().sum() > 0


@pytest.mark.parametrize('cells', [1, 2, 4])
def test_coefficients_have_a_vector_per_cell(cells):
    head = SipMaskBBoxHead(**SMALL, num_cells=cells, test_cfg=TEST)
    torch.nn.init.zeros_(head.conv_cls.bias)
    result = head.predict_by_feat(head(pyramid()), [META] * 2)[0]
    assert len(result) == 9
    assert result.coeffs.shape == (9, cells**2, 8)


def test_nan_predictions_are_an_error_not_an_empty_list():
    head = SipMaskBBoxHead(**SMALL, test_cfg=TEST)
    for field in ('classes', 'ltrb', 'centers'):
        for kind in ('greedy', 'fast'):
            outputs = head(pyramid(1))
            for level in getattr(outputs, field):
                level.fill_(float('nan'))
            nms = {'type': kind, 'iou_threshold': 0.5}
            with pytest.raises(FloatingPointError, match='not finite'):
                head.predict_by_feat(outputs, [META], TEST | {'nms': nms})


@pytest.mark.parametrize('classes', [1, 1203])
def test_any_number_of_classes_trains_and_predicts(classes):
    head = SipMaskBBoxHead(**(SMALL | {'num_classes': classes}))
    torch.nn.init.zeros_(head.conv_cls.bias)
    outputs = head(pyramid())
    label = torch.tensor([classes - 1])
    gts = [InstanceData(bboxes=torch.tensor([[4.0, 4, 50, 60]]), labels=label)] * 2
    losses, positives = head.loss_by_feat(outputs, gts)
    assert all(loss.isfinite() for loss in losses.values())
    assert (positives[0].labels == classes - 1).all()
    for nms in (TEST['nms'], {'type': 'fast', 'iou_threshold': 0.5, 'top_k': 20}):
        cfg = TEST | {'nms': nms, 'max_candidates': 500}
        result = head.predict_by_feat(outputs, [META] * 2, cfg)[0]
        assert len(result) == 9
        assert result.labels.max() < classes


def test_ranking_pairs_and_points_agree_when_nothing_is_cut():
    head = SipMaskBBoxHead(**SMALL)
    torch.nn.init.zeros_(head.conv_cls.bias)
    outputs = head(pyramid(1))
    cfg = TEST | {'nms_pre': 10**6, 'max_per_img': 50}
    points = head.predict_by_feat(outputs, [META], cfg)[0]
    pairs = head.predict_by_feat(outputs, [META], cfg | {'candidates': 'pairs'})[0]
    assert torch.equal(points.bboxes, pairs.bboxes)
    root = head.predict_by_feat(outputs, [META], cfg | {'candidates': 'pairs', 'score_sqrt': True})[
        0
    ]
    torch.testing.assert_close(root.scores, pairs.scores.sqrt())


@pytest.mark.parametrize('candidates', ['points', 'pairs'])
def test_a_limit_of_minus_one_is_none(candidates):
    head = SipMaskBBoxHead(**SMALL)
    torch.nn.init.zeros_(head.conv_cls.bias)
    outputs, cfg = head(pyramid(1)), TEST | {'candidates': candidates, 'max_per_img': 50}
    every, none = (
        head.predict_by_feat(outputs, [META], cfg | {'nms_pre': limit})[0] for limit in (10**6, -1)
    )
    few = head.predict_by_feat(outputs, [META], cfg | {'nms_pre': 1})[0]
    assert torch.equal(every.bboxes, none.bboxes) and len(few) < len(none)


def test_mistaken_settings_are_refused_by_name():
    head = SipMaskBBoxHead(**SMALL)
    with pytest.raises(ValueError, match="unknown nms type 'soft'"):
        head.predict_by_feat(head(pyramid(1)), [META], TEST | {'nms': {'type': 'soft'}})
    with pytest.raises(ValueError, match='got 0 and 2'):
        SipMaskBBoxHead(3, stacked_convs=0)
    with pytest.raises(ValueError, match='pass num_classes'):
        SipMaskHead(rescoring=True)


def test_mask_scores_read_the_row_of_their_class_and_accept_small_maps():
    head = tiny_detector(mask={'rescoring': True}).mask_head
    for layer in (*(conv.conv for conv in head.scoring_convs), head.conv_scoring):
        torch.nn.init.uniform_(layer.weight, 0, 0.3)
    boxes = torch.tensor([[4.0, 4, 40, 40], [10, 20, 60, 50]])
    coeffs = torch.randn(2, 4, 8)
    for size in ((32, 40), (130, 140)):
        pixels = head.pixels(boxes, coeffs, size)
        probs = torch.rand(len(pixels.box))
        labels = torch.tensor([2, 0])
        scores = head.mask_scores(probs, pixels, size, labels)
        assert scores.shape == (2,)
        swapped = head.mask_scores(probs, pixels, size, labels.flip(0))
        with torch.no_grad():
            head.conv_scoring.weight[1] = float('nan')
        assert torch.equal(head.mask_scores(probs, pixels, size, labels), scores)
        assert not torch.equal(swapped, scores)
    empty = head.pixels(boxes[:0], coeffs[:0], (32, 40))
    assert head.mask_scores(torch.zeros(0), empty, (32, 40), labels[:0]).shape == (0,)


def test_initial_weights_follow_the_original():
    detector = tiny_detector(mask={'rescoring': True})
    detector.init_weights()
    box, mask = detector.bbox_head, detector.mask_head
    assert box.feat_align.conv_offset.weight.eq(0).all()
    torch.testing.assert_close(box.conv_cls.bias, torch.full((3,), -4.59512))
    assert 0.0008 < box.conv_coeff.weight.std() < 0.0012
    assert 0.009 < box.conv_reg.weight.std() < 0.011
    assert 0.009 < mask.conv_basis.weight.std() < 0.011
    assert mask.conv_scoring.weight.std() < 0.002


def test_weights_of_a_file_are_the_initial_ones(tmp_path):
    given, file = SipMaskBBoxHead(**SMALL), tmp_path / 'head.pth'
    torch.nn.init.normal_(given.feat_align.conv_offset.weight)
    torch.save(given.state_dict(), file)
    head = SipMaskBBoxHead(**SMALL, init_cfg=dict(type='Pretrained', checkpoint=str(file)))
    head.init_weights()
    for name, weight in given.state_dict().items():
        assert torch.equal(head.state_dict()[name], weight), name
