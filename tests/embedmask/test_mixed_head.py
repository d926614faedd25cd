"""Heads of other detectors carry proposals: build, loss, predict."""

import copy
import pickle

import pytest
import torch
from locations import ROOT
from mmdet.registry import MODELS
from mmengine.config import Config
from tiny_embedmask import finite, images, sample

from mmrefine.embedmask.mixed_head import EmbeddedHead

BOXES = [[8.0, 8.0, 60.0, 70.0], [50.0, 20.0, 110.0, 80.0]]
ANCHORS = dict(
    type='AnchorGenerator',
    ratios=[1.0],
    octave_base_scale=8,
    scales_per_octave=1,
    strides=[8, 16, 32, 64, 128],
)
HEADS = dict(
    atss=dict(
        type='ATSSHead', anchor_generator=ANCHORS, loss_bbox=dict(type='GIoULoss', loss_weight=2.0)
    ),
    gfl=dict(
        type='GFLHead',
        anchor_generator=ANCHORS,
        loss_cls=dict(type='QualityFocalLoss', use_sigmoid=True, beta=2.0),
        loss_dfl=dict(type='DistributionFocalLoss', loss_weight=0.25),
        loss_bbox=dict(type='GIoULoss', loss_weight=2.0),
    ),
    fcos=dict(type='FCOSHead', strides=[8, 16, 32, 64, 128], norm_on_bbox=False),
)


def detector(kind: str, **head):
    """The published mixed config at a quarter of its width, with another head."""
    config = Config.fromfile(ROOT / 'configs' / 'embedmask' / 'embedmask_atss_r50_fpn_1x_coco.py')
    model = config.model
    model.backbone.update(depth=18, base_channels=8, frozen_stages=-1, init_cfg=None)
    model.backbone.update(style='pytorch')
    model.neck.update(in_channels=[8, 16, 32, 64], out_channels=64)
    narrow = dict(num_classes=3, in_channels=64, feat_channels=64, stacked_convs=1)
    model.bbox_head.head = {**HEADS[kind], **narrow, **head}
    model.mask_head.update(in_channels=64, feat_channels=64, num_convs=1)
    model.train_cfg = dict(
        assigner=dict(type='ATSSAssigner', topk=9), allowed_border=-1, pos_weight=-1, debug=False
    )
    model.test_cfg.update(score_thr=0.0, max_per_img=5)
    built = MODELS.build(model)
    built.init_weights()
    return built


@pytest.mark.parametrize('kind', HEADS)
def test_another_head_learns_boxes_and_masks(kind):
    model, samples = detector(kind), [sample(BOXES), sample([])]
    losses = model.loss(images(samples), samples)
    flat = {k: sum(v) if isinstance(v, (list, tuple)) else v for k, v in losses.items()}
    assert finite(flat)
    assert flat['loss_mask'] > 0.1
    flat['loss_mask'].backward()
    branch = [p for n, p in model.bbox_head.named_parameters() if n.startswith('conv_')]
    assert branch
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in branch)
    assert model.bbox_head.head.reg_convs[0].conv.weight.grad.abs().sum() > 0


@pytest.mark.parametrize('norm_on_bbox', [False, True])
def test_fcos_chooses_proposals_by_the_boxes_that_it_predicts(norm_on_bbox):
    model, data = detector('fcos', norm_on_bbox=norm_on_bbox), sample(BOXES)
    head = model.bbox_head
    with torch.no_grad():
        x = model.extract_feat(images([data]))
        boxes = {mode: head.train(mode)._decode(head(x).head[1]) for mode in (True, False)}
    torch.testing.assert_close(boxes[True], boxes[False])


def test_every_level_needs_its_range():
    ranges = [(-1, 64), (64, 128), (128, 256), (256, 1e8)]
    with pytest.raises(ValueError, match='5 levels but 4 regress_ranges'):
        EmbeddedHead({**HEADS['fcos'], 'num_classes': 3, 'in_channels': 64}, regress_ranges=ranges)


@pytest.mark.parametrize('kind', HEADS)
def test_another_head_predicts_boxes_equal_to_its_own_and_masks(kind):
    model, data = detector(kind).eval(), sample(BOXES)
    pixels = images([data])
    with torch.no_grad():
        x = model.extract_feat(pixels)
        own = model.bbox_head.head.predict(x, [sample(BOXES)], rescale=False)[0]
        (carried,) = model.bbox_head.predict_by_feat(model.bbox_head(x), [data.metainfo])
        (result,) = model.predict(pixels, [data])
    torch.testing.assert_close(carried.scores.sort().values, own.scores.sort().values)
    torch.testing.assert_close(
        carried.bboxes.sort(dim=0).values, own.bboxes.sort(dim=0).values, atol=1e-3, rtol=1e-4
    )
    assert result.pred_instances.masks.shape[1:] == (96, 128)


@pytest.mark.parametrize('kind', HEADS)
def test_another_head_compiles_copies_and_pickles(kind):
    head = detector(kind).eval().bbox_head
    x = [torch.randn(1, 64, max(1, 16 >> i), max(1, 24 >> i)) for i in range(5)]
    copies = (
        torch.compile(head, fullgraph=True, backend='eager'),
        copy.deepcopy(head),
        pickle.loads(pickle.dumps(head)),
    )
    with torch.no_grad():
        expected = head(x)
        for each in copies:
            found = each(x)
            torch.testing.assert_close(found.embeds, expected.embeds)
            torch.testing.assert_close(found.margins, expected.margins)
            assert each._features is None


def test_margins_from_the_box_are_refused():
    proposal = dict(coord_embed=False, margin_source='box', margin_dims='one')
    with pytest.raises(ValueError, match="margin_source='feature'"):
        EmbeddedHead(dict(type='FCOSHead', num_classes=3, in_channels=64), proposal)


def test_several_priors_per_cell_are_refused():
    with pytest.raises(ValueError, match='2 priors per cell'):
        detector('atss', anchor_generator={**ANCHORS, 'ratios': [1.0, 2.0]})


def test_heads_without_a_shared_regression_tower_are_refused():
    head = dict(type='YOLOXHead', num_classes=3, in_channels=64, feat_channels=64)
    with pytest.raises(ValueError, match='YOLOXHead has no regression tower'):
        EmbeddedHead(head)


@pytest.mark.parametrize(
    'head',
    [
        dict(type='FoveaHead', base_edge_list=[16, 32, 64, 128, 256]),
        dict(type='CenterNetUpdateHead', strides=[8, 16, 32, 64, 128]),
        dict(
            type='RTMDetInsHead',
            anchor_generator=dict(type='MlvlPointGenerator', offset=0, strides=[8, 16]),
            bbox_coder=dict(type='DistancePointBBoxCoder'),
            loss_mask=dict(type='DiceLoss'),
        ),
    ],
)
def test_heads_whose_boxes_mean_something_else_are_refused(head):
    kind = head['type']
    with pytest.raises(ValueError, match=f'boxes of {kind}: take one of ATSSHead, .*FCOSHead'):
        EmbeddedHead(dict(num_classes=3, in_channels=64, feat_channels=64, **head))


def test_softmax_classes_are_refused():
    loss = dict(type='CrossEntropyLoss', use_sigmoid=False)
    with pytest.raises(ValueError, match='set use_sigmoid=True'):
        detector('fcos', loss_cls=loss)
