"""Proposal branch, mask loss and mask output, part by part."""

import math

import pytest
import torch
from mmengine.structures import InstanceData

from mmrefine.embedmask.box_head import EmbedMaskBBoxHead, log_margin_prior
from mmrefine.embedmask.kernel import mask_exponent
from mmrefine.embedmask.losses import EmbedMaskLoss
from mmrefine.embedmask.mask_head import EmbedMaskHead
from mmrefine.embedmask.postprocess import LOG_OUTSIDE, MaskOutput
from mmrefine.embedmask.targets import Proposals, limit_positives


def box_head(**options):
    small = dict(in_channels=64, feat_channels=64, num_cls_convs=1, num_reg_convs=1)
    head = EmbedMaskBBoxHead(num_classes=2, **small, **options)
    head.init_weights()
    return head


def pyramid(size=(64, 64)):
    return [torch.randn(1, 64, -(-size[0] // s), -(-size[1] // s)) for s in (8, 16, 32, 64, 128)]


def proposals(count, objects=2, dims=4, batch=1):
    """Every point learns an object, in turn."""
    index = torch.arange(count).repeat(batch, 1) % objects
    return Proposals(
        torch.randn(batch, count, dims, requires_grad=True),
        torch.rand(batch, count, dims) + 0.1,
        index,
        torch.rand(batch, count),
    )


def two_objects(size=(64, 64)):
    masks = torch.zeros(2, *size, dtype=torch.bool)
    masks[0, 4:40, 4:30] = True
    masks[1, 20:60, 24:60] = True
    boxes = torch.tensor([[4.0, 4.0, 30.0, 40.0], [24.0, 20.0, 60.0, 60.0]])
    return InstanceData(bboxes=boxes, labels=torch.tensor([0, 1]), masks=masks)


@pytest.mark.parametrize('options', [{}, dict(reduce_channels=16), dict(margin_dims='one')])
def test_fresh_margins_give_probability_one_half_at_the_prior_distance(options):
    head = box_head(proposal=options, prior_distance=2.0)
    margins = head(pyramid())
    expected = torch.full_like(margins.margins[0], math.log(2) / 4)
    torch.testing.assert_close(margins.margins[0], expected, atol=1e-2, rtol=0)
    assert math.exp(-math.exp(log_margin_prior(2.0)) * 4) == pytest.approx(0.5)


def test_margins_from_the_box_send_no_gradient_to_it():
    head = box_head(proposal=dict(coord_embed=False, margin_source='box', margin_dims='one'))
    sum(m.sum() for m in head(pyramid()).margins).backward()
    assert head.conv_reg.weight.grad is None
    assert head.conv_margin.weight.grad is not None


def test_the_margin_unit_divides_the_feature():
    """Log margins minus their bias are linear in the feature, so twice the unit is half of them."""
    heads = [box_head(proposal=dict(margin_unit=unit)) for unit in (32.0, 64.0)]
    heads[1].load_state_dict(heads[0].state_dict())
    x = pyramid()
    coarse, fine = (head(x).margins[0].log() - log_margin_prior(2.0) for head in heads)
    torch.testing.assert_close(coarse, 2 * fine, atol=1e-5, rtol=1e-4)


def test_fixed_margins_do_not_depend_on_the_feature():
    head = box_head(proposal=dict(fixed_margin=2.0))
    margins = head(pyramid()).margins[1]
    torch.testing.assert_close(margins, torch.full_like(margins, math.log(2) / 4))


def test_coordinates_come_first_and_scale_with_the_shared_factor():
    head = box_head()
    with torch.no_grad():
        head.conv_embed_spatial.weight.zero_()
        head.position_scale.scale.fill_(3.0)
        embed = head(pyramid()).embeds[0]
    assert embed[0, 0, 0, :3].tolist() == pytest.approx([0.12, 0.36, 0.6])
    assert embed[0, 1, :3, 0].tolist() == pytest.approx([0.12, 0.36, 0.6])


@pytest.mark.parametrize(
    'proposal',
    [
        dict(margin_source='pixel'),
        dict(embed_dim=2),
        dict(margin_source='box'),
        dict(coord_embed=False),
    ],
)
def test_contradictory_branch_settings_are_refused(proposal):
    with pytest.raises(ValueError, match='margin|embed_dim'):
        box_head(proposal=proposal)


def test_wrong_number_of_levels_is_refused():
    with pytest.raises(ValueError, match='4 feature levels but 5 strides'):
        box_head()(pyramid()[:4])


@pytest.mark.parametrize(
    ('setting', 'value'), [('kind', 'bce'), ('select', 'some'), ('average', 'max')]
)
def test_unknown_loss_settings_are_refused_with_the_choices(setting, value):
    with pytest.raises(ValueError, match=f'{setting} must be one of'):
        EmbedMaskLoss(**{setting: value})


def test_best_selection_learns_one_proposal_per_object():
    data, points = two_objects(), proposals(20)
    chosen = EmbedMaskLoss(select='best').choose(points, points.gt_index, 0, 2)
    assert chosen.gt_index.sort().values.tolist() == [0, 1]
    for group, embed in zip(chosen.gt_index, chosen.embeds):
        mine = (points.gt_index[0] == group).nonzero().squeeze(1)
        best = mine[points.overlap[0, mine].argmax()]
        assert torch.equal(embed, points.embeds[0, best])
    assert len(data.bboxes) == 2


def test_thousands_of_positives_are_limited_by_a_random_choice():
    points = proposals(4000, batch=2)
    loss = EmbedMaskLoss(select='all', max_proposals=50, average='batch')
    torch.manual_seed(1)
    limited = limit_positives(points.gt_index, 50)
    assert (limited >= 0).sum() == 50
    kept = limited >= 0
    assert torch.equal(limited[kept], points.gt_index[kept])
    pixels = torch.randn(2, 4, 16, 16)
    losses = loss(pixels, points, [two_objects(), two_objects()])
    losses['loss_mask'].backward()
    assert losses['loss_mask'].isfinite()
    assert (points.embeds.grad.abs().sum(dim=-1) > 0).sum() <= 50


def test_thousands_of_positives_without_a_limit_share_the_best_selection():
    points = proposals(5000)
    losses = EmbedMaskLoss(select='best')(torch.randn(1, 4, 16, 16), points, [two_objects()])
    assert losses['loss_mask'].isfinite()


def test_averages_follow_their_names():
    points = proposals(6)._replace(gt_index=torch.tensor([[0, 0, -1, -1, -1, -1]]))
    pixels, data = torch.randn(1, 4, 16, 16), two_objects()
    each = {
        name: EmbedMaskLoss(average=name, loss_weight=1.0)(pixels, points, [data])['loss_mask']
        for name in ('sampled', 'objects', 'batch')
    }
    # one of two objects has a proposal
    torch.testing.assert_close(each['sampled'], each['batch'])
    torch.testing.assert_close(each['sampled'], 2 * each['objects'])


def test_padding_cells_count_only_without_a_box():
    points, data = proposals(2), two_objects()
    pixels = torch.randn(1, 4, 16, 16)
    changed = pixels.clone()
    # the last column lies outside both grown boxes; there, the background now looks like object 0
    changed[0, :, :, 15] = points.embeds[0, 0, :, None].detach()
    cropped, whole = EmbedMaskLoss(box_padding=0.1), EmbedMaskLoss()
    before, after = (cropped(p, points, [data])['loss_mask'] for p in (pixels, changed))
    torch.testing.assert_close(before, after)
    before, after = (whole(p, points, [data])['loss_mask'] for p in (pixels, changed))
    assert (before - after).abs() > 1e-4


def detections(count=3):
    boxes = torch.tensor([[8.0, 8.0, 40.0, 40.0]]).repeat(count, 1)
    return InstanceData(embeds=torch.randn(count, 4), margins=torch.rand(count, 4), bboxes=boxes)


def test_masks_do_not_leave_their_box_and_halo_unless_asked_to():
    pixels, result = torch.zeros(4, 16, 16), detections()
    result.embeds.zero_()
    kept = MaskOutput(box_halo=1)(pixels, result, (64, 64), (64, 64), {})
    rows, columns = kept[0].nonzero().unbind(1)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (4, 43, 4, 43)
    assert MaskOutput(box_halo=None)(pixels, result, (64, 64), (64, 64), {}).all()


def test_thresholds_mean_the_same_in_both_spaces_on_the_map():
    pixels, result = torch.randn(4, 16, 16), detections()
    args = (pixels, result.embeds, result.margins, result.bboxes)
    plain, logs = MaskOutput().soft_maps(*args), MaskOutput(log_space=True).soft_maps(*args)
    for threshold in (0.45, 0.5, 0.53):
        same = (plain > threshold) == (logs > math.log(threshold))
        assert same.float().mean() > 0.999
    assert plain[0, 0, 15] == 0
    assert logs[0, 0, 15] == LOG_OUTSIDE


def test_probabilities_are_those_of_the_kernel_inside_the_box():
    pixels, result = torch.randn(4, 16, 16), detections()
    soft = MaskOutput(box_halo=1).soft_maps(pixels, result.embeds, result.margins, result.bboxes)
    expected = torch.exp(-mask_exponent(pixels, result.embeds, result.margins))
    torch.testing.assert_close(soft[:, 2:10, 2:10], expected[:, 2:10, 2:10], atol=1e-5, rtol=1e-5)


def test_results_do_not_depend_on_the_chunk_size(monkeypatch):
    pixels, result = torch.randn(4, 16, 16), detections(7)
    whole = MaskOutput(aligned=True)(pixels, result, (60, 61), (90, 100), {})
    monkeypatch.setattr('mmrefine.embedmask.postprocess.CHUNK', 1)
    assert torch.equal(MaskOutput(aligned=True)(pixels, result, (60, 61), (90, 100), {}), whole)


def test_unknown_branch_is_refused():
    with pytest.raises(ValueError, match="'finest' or 'merged'"):
        EmbedMaskHead(branch='coarse')
    with pytest.raises(ValueError, match='needs num_classes'):
        EmbedMaskHead(loss_semantic=dict(type='FocalLoss', use_sigmoid=True))
    with pytest.raises(ValueError, match="'box' or 'mask'"):
        box_head(center='image')
