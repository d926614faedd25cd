"""DeepMask and SharpMask as detectors: training on patches, proposing on images."""

import numpy as np
import pytest
import torch
from mmdet.models.data_preprocessors import DetDataPreprocessor
from tiny_sharpmask import PATCH, build, image, patch_sample, sample

from mmrefine.masks import to_dense
from mmrefine.sharpmask.patch_transforms import OUTSIDE, warp_square


def propose(model, picture, **meta):
    height, width = picture.shape[-2:]
    return model.predict(picture, [sample(height, width, **meta)])[0].pred_instances


@pytest.mark.parametrize('refined', [False, True])
def test_proposals_are_masks_with_tight_boxes_best_first(refined):
    result = propose(build(refined), image(90, 130))
    assert result.masks.shape == (7, 90, 130) and result.masks.dtype == torch.bool
    assert (result.scores[:-1] >= result.scores[1:]).all() and not result.labels.any()
    for mask, box in zip(result.masks, result.bboxes.int().tolist()):
        ys, xs = mask.nonzero().T
        expected = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1] if len(xs) else [0, 0, 0, 0]
        assert box == [int(v) for v in expected]


@pytest.mark.parametrize('refined', [False, True])
@pytest.mark.parametrize(
    'option', [dict(mask_format='rle'), dict(chunk=1), dict(strip=None), dict(strip=1)]
)
def test_options_of_form_and_memory_change_no_mask(refined, option):
    torch.manual_seed(3)
    model = build(refined, log2_scales=(0.0, 1.0))
    picture = image(150, 210)
    plain = propose(model, picture)
    model.test_cfg.update(option)
    other = propose(model, picture)
    torch.testing.assert_close(plain.scores, other.scores, atol=1e-5, rtol=1e-5)
    assert (to_dense(other.masks, (150, 210)) != plain.masks).float().mean() < 1e-4


def test_a_batch_of_two_equals_two_images():
    model, pictures = build(True), torch.cat([image(80, 100, 1), image(80, 100, 2)])
    together = model.predict(pictures, [sample(80, 100), sample(80, 60)])
    for i, width in enumerate((100, 60)):
        alone = propose(model, pictures[i : i + 1, :, :, :width])
        assert torch.equal(together[i].pred_instances.masks, alone.masks)


@pytest.mark.parametrize('refined', [False, True])
@pytest.mark.parametrize('size', [(5, 7), (1, 64), (64, 1), (1, 1)])
def test_images_smaller_than_a_window_and_single_rows_work(refined, size):
    result = propose(build(refined), image(*size))
    assert result.masks.shape[1:] == size and torch.isfinite(result.scores).all()
    assert 1 <= len(result) <= 7


def test_fewer_windows_than_proposals_give_fewer_proposals():
    result = propose(build(max_per_img=10000), image(20, 20))
    # padded by half a window: 14 + 48 px are 4 cells and 2 windows a side, 20 + 48 px 5 and 3
    assert len(result) == 2 * 2 + 3 * 3


def test_masks_of_a_resized_image_come_in_the_original_size():
    model = build(True)
    result = propose(model, image(64, 96), ori_shape=(128, 192), scale_factor=(0.5, 0.5))
    small = model.predict(image(64, 96), [sample(64, 96, ori_shape=(128, 192))], rescale=False)[0]
    assert result.masks.shape[1:] == (128, 192)
    assert small.pred_instances.masks.shape[1:] == (64, 96)
    ratio = result.masks.sum().item() / max(small.pred_instances.masks.sum().item(), 1)
    assert 3 < ratio < 5


def test_a_grey_image_is_refused_with_the_fix():
    with pytest.raises(ValueError, match="color_type='color'"):
        build().propose(image(40, 40)[:, :1])


def test_the_coarse_switch_gives_deepmask_masks_of_the_same_weights():
    refined = build(True, coarse=True)
    plain = build()
    plain.load_state_dict(
        {k: v for k, v in refined.state_dict().items() if not k.startswith('refine_head')}
    )
    assert torch.equal(propose(refined, image(70, 90)).masks, propose(plain, image(70, 90)).masks)


def test_suppression_is_off_and_can_be_switched_on():
    assert len(propose(build(), image(90, 90))) == 7
    model, other = build(nms=0.01), build(nms=dict(type='nms', iou_threshold=0.01))
    kept = propose(model, image(90, 90))
    assert 0 < len(kept) < 7 and (kept.scores[:-1] >= kept.scores[1:]).all()
    other.load_state_dict(model.state_dict())
    same = propose(other, image(90, 90))
    assert torch.equal(same.masks, kept.masks) and torch.equal(same.scores, kept.scores)


def test_soft_suppression_lowers_scores_and_orders_by_them():
    model = build()
    plain = propose(model, image(90, 90))
    model.test_cfg['nms'] = dict(type='soft_nms', iou_threshold=0.01, min_score=0.0)
    soft = propose(model, image(90, 90))
    assert len(soft) == len(plain) and soft.scores.sum() < plain.scores.sum()
    assert (soft.scores[:-1] >= soft.scores[1:]).all()
    boxes = plain.bboxes.tolist()
    before = plain.scores[[boxes.index(box) for box in soft.bboxes.tolist()]]
    assert (soft.scores <= before).all()


def test_bfloat16_changes_scores_little():
    model = build(True)
    plain = propose(model, image(90, 130))
    model.test_cfg['trunk_dtype'] = 'bfloat16'
    half = propose(model, image(90, 130))
    assert half.scores.dtype == torch.float32
    torch.testing.assert_close(plain.scores, half.scores, atol=0.03, rtol=0.03)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(pasting='official'), 'pasting'),
        (dict(paste='exact'), "'exact'"),
        (dict(mask_thr=1.5), '1.5'),
        (dict(trunk_dtype='half'), "'half'"),
        (dict(max_per_img=0), 'max_per_img'),
        (dict(log2_scales=()), 'scale'),
        (dict(strip='rows'), "'rows'"),
        (dict(nms=1.2), '1.2'),
        (dict(nms='nms'), "'nms'"),
        (dict(classes=('window',)), "unknown test_cfg keys .'classes'"),
    ],
)
def test_bad_test_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_losses_sum_masks_and_weigh_scores():
    model = build()
    patches = torch.randn(4, 3, PATCH, PATCH)
    samples = [patch_sample(24, mask=i < 3, score=i >= 2, value=1.0) for i in range(3)]
    samples.append(patch_sample(24, mask=False, score=True, value=0.0))
    losses = model.loss(patches, samples)
    masks, scores = model._forward(patches)
    wide = torch.nn.functional.interpolate(
        masks[:, None], (24, 24), mode='bilinear', align_corners=True
    )[:, 0]
    sign = torch.ones(24, 24)
    sign[:, 12:] = -1
    expected = torch.log1p(torch.exp(-sign * wide[:3])).mean((1, 2)).sum()
    torch.testing.assert_close(losses['loss_mask'], expected)
    expected = (torch.log1p(torch.exp(-scores[2])) + torch.log1p(torch.exp(scores[3]))) / 32
    torch.testing.assert_close(losses['loss_score'], expected)


def test_batches_without_masks_or_without_scores_train():
    model = build().train()
    for kind in (True, False):
        losses = model.loss(
            torch.randn(2, 3, PATCH, PATCH), [patch_sample(24, mask=kind, score=not kind)] * 2
        )
        sum(losses.values()).backward()
        assert losses['loss_score' if kind else 'loss_mask'] == 0
    assert all(p.grad is not None for p in model.mask_head.parameters())


@pytest.mark.parametrize(('kind', 'idle'), [('score', 'mask_fc'), ('mask', 'score_fc1')])
def test_an_idle_branch_is_left_alone_or_decays(kind, idle):
    patches = torch.randn(2, 3, PATCH, PATCH)
    sample = patch_sample(24, mask=kind == 'mask', score=kind == 'score')
    for skip in (True, False):
        model = build()
        model.skip_idle = skip
        layer = getattr(model.mask_head, idle)
        before, trunk = layer.weight.clone(), model.mask_head.encoder.weight.clone()
        sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.5)
        sum(model.loss(patches, [sample, sample]).values()).backward()
        sgd.step()
        assert (layer.weight.grad is None) == skip
        left = before if skip else before * (1 - 0.1 * 0.5)
        torch.testing.assert_close(layer.weight, left)
        assert not torch.equal(model.mask_head.encoder.weight, trunk)


def test_the_second_stage_trains_the_refinement_only():
    model = build(True).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    losses = model.loss(torch.randn(2, 3, PATCH, PATCH), [patch_sample(48, score=False)] * 2)
    assert [k for k in losses if 'loss' in k] == ['loss_mask']
    losses['loss_mask'].backward()
    optimiser.step()
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]) != key.startswith('refine_head'), key


def test_joint_training_reaches_the_trunk():
    model = build(True, freeze=False).train()
    sum(model.loss(torch.randn(2, 3, PATCH, PATCH), [patch_sample(48)] * 2).values()).backward()
    assert model.backbone.conv1.weight.grad.abs().sum() > 0


@pytest.mark.parametrize('coarse', [False, True])
def test_joint_training_has_a_gradient_for_every_trained_weight(coarse):
    model = build(True, coarse, freeze=False).train()
    sum(model.loss(torch.randn(2, 3, PATCH, PATCH), [patch_sample(48)] * 2).values()).backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


def test_patches_of_the_wrong_size_are_refused():
    with pytest.raises(ValueError, match=f'patches must be {PATCH} px'):
        build().loss(torch.randn(1, 3, 64, 64), [patch_sample(24)])


def test_patches_are_judged_in_validation():
    judged = build(True).predict(torch.randn(2, 3, PATCH, PATCH), [patch_sample(48)] * 2)
    assert judged[0].pred_instances.mask_logits.shape == (1, 48, 48)
    assert judged[0].pred_instances.scores.shape == (1,)


def test_given_boxes_are_segmented():
    model = build(True)
    boxes = torch.tensor([[10.0, 12, 40, 50], [60, 5, 90, 30], [-5, -5, 20, 20]])
    result = model.predict_boxes(image(70, 100), boxes)
    assert result.masks.shape == (3, 70, 100) and torch.equal(result.bboxes, boxes)
    assert len(model.predict_boxes(image(70, 100), boxes[:0]).masks) == 0
    with pytest.raises(ValueError, match='x2 > x1'):
        model.predict_boxes(image(70, 100), torch.tensor([[5.0, 5, 5, 9]]))


@pytest.mark.parametrize('refined', [False, True])
@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16, torch.float16])
def test_models_of_any_type_propose_nearly_the_same(refined, dtype):
    model = build(refined)
    plain = propose(model, image(90, 130))
    other = propose(model.to(dtype), image(90, 130).to(dtype))
    assert other.scores.dtype == torch.float32
    torch.testing.assert_close(plain.scores, other.scores, atol=0.03, rtol=0.03)


def test_images_that_are_not_normalised_are_surrounded_by_the_grey_of_the_patches():
    model = build()
    model.data_preprocessor = DetDataPreprocessor()
    outside = warp_square(np.zeros((10, 10, 3)), np.array([100.0, 100, 50, 50]), 8, OUTSIDE)
    grey = model.fill_colour(torch.zeros(1, 3, 4, 4))
    assert grey.tolist() == outside[0, 0].tolist() == [127.5] * 3
    model.data_preprocessor = DetDataPreprocessor(mean=[120.0] * 3, std=[60.0] * 3)
    assert model.fill_colour(torch.zeros(1, 3, 4, 4)).tolist() == [0.125] * 3
