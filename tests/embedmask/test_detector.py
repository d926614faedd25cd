"""The whole detector on ordinary and on difficult input, for all four generations."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS, TRANSFORMS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from pycocotools import mask as coco_mask
from tiny_embedmask import VARIANTS, finite, images, sample, tiny_config, tiny_detector

from mmrefine.embedmask.targets import objects_on_canvas
from mmrefine.masks import to_dense

BOXES = [[8.0, 8.0, 60.0, 70.0], [50.0, 20.0, 110.0, 80.0]]


def train(detector: torch.nn.Module, samples: list[DetDataSample]) -> dict[str, torch.Tensor]:
    """Losses of one step; checks that they and all gradients are finite."""
    detector.train()
    losses = detector.loss(images(samples), samples)
    assert finite(losses), losses
    sum(losses.values()).backward()
    for name, parameter in detector.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    return losses


@pytest.mark.parametrize('variant', VARIANTS)
def test_one_step_reaches_every_parameter_with_finite_gradients(variant):
    losses = train(tiny_detector(variant), [sample(BOXES), sample(BOXES[:1])])
    expected = {'loss_cls', 'loss_bbox', 'loss_centerness', 'loss_mask'}
    expected |= {'v1': {'loss_smooth'}, 'adet': {'loss_semantic'}}.get(variant, set())
    assert set(losses) == expected
    assert losses['loss_mask'] > 0.1


@pytest.mark.parametrize('variant', VARIANTS)
def test_fixed_margins_reach_every_parameter(variant):
    model = tiny_config(variant).model
    model.bbox_head.setdefault('proposal', {})['fixed_margin'] = 2.0
    train(MODELS.build(model), [sample(BOXES)])


@pytest.mark.parametrize('variant', VARIANTS)
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_mixed_precision_learns_from_as_many_points(variant, dtype):
    detector, data = tiny_detector(variant), sample([[300.0, 200.0, 420.0, 330.0]], (384, 448))
    torch.manual_seed(0)  # of the points that are chosen
    expected = detector.loss(images([data]), [data])
    torch.manual_seed(0)
    with torch.autocast('cpu', dtype=dtype):
        losses = detector.loss(images([data]), [data])
    assert expected['loss_bbox'] > 0
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, rtol=0.05, atol=0.01)


@pytest.mark.parametrize('settings', [dict(coord_embed=False), dict(embed_dim=12)])
def test_embeddings_that_cannot_be_compared_are_refused(settings):
    model = tiny_config('v3').model
    model.mask_head.update(settings)
    with pytest.raises(ValueError, match=f'mask_head.{next(iter(settings))}='):
        MODELS.build(model)


@pytest.mark.parametrize('nms', [dict(type='fast'), dict(type='soft_nms'), dict(type='nms')])
def test_every_suppression_takes_its_own_keys(nms):
    detector, data = tiny_detector('v3'), sample(BOXES)
    detector.bbox_head.test_cfg = dict(score_thr=0.0, max_per_img=5, nms={**nms, 'iou_thr': 0.5})
    detector.eval()
    with torch.no_grad():
        assert len(
            detector.bbox_head.predict_by_feat(
                detector.bbox_head(detector.extract_feat(images([data]))), [data.metainfo]
            )[0]
        )


@pytest.mark.parametrize('variant', VARIANTS)
def test_learning_one_image_brings_the_mask_loss_down(variant):
    detector, samples = tiny_detector(variant), [sample(BOXES)]
    optimizer = torch.optim.AdamW(detector.parameters(), lr=3e-3)
    history = []
    for _ in range(25):
        optimizer.zero_grad()
        losses = detector.loss(images(samples), deepcopy(samples))
        sum(losses.values()).backward()
        optimizer.step()
        history.append(float(losses['loss_mask']))
    assert history[-1] < 0.6 * history[0]


@pytest.mark.parametrize('variant', VARIANTS)
def test_images_without_objects_give_zero_mask_loss(variant):
    losses = train(tiny_detector(variant), [sample([]), sample([])])
    assert losses['loss_mask'] == 0
    assert losses['loss_bbox'] == 0
    assert losses['loss_cls'] > 0


@pytest.mark.parametrize('variant', VARIANTS)
def test_crowd_only_images_are_images_without_objects(variant):
    crowd = sample([])
    crowd.ignored_instances = sample(BOXES).gt_instances
    expected = tiny_detector(variant).loss(images([crowd]), [sample([])])
    losses = train(tiny_detector(variant), [crowd])
    assert {k: float(v) for k, v in losses.items()} == {k: float(v) for k, v in expected.items()}


@pytest.mark.parametrize('variant', VARIANTS)
def test_objects_that_no_point_hits_teach_no_mask(variant):
    # points lie at 4, 12, 20, ...: a 3 x 3 object between them contains none
    losses = train(tiny_detector(variant), [sample([[6.0, 6.0, 9.0, 9.0]])])
    assert losses['loss_mask'] == 0


@pytest.mark.parametrize('variant', VARIANTS)
def test_empty_masks_are_no_obstacle(variant):
    data = sample(BOXES)
    data.gt_instances.masks = BitmapMasks(np.zeros((2, 96, 128), np.uint8), 96, 128)
    train(tiny_detector(variant), [data])


@pytest.mark.parametrize('variant', VARIANTS)
def test_all_equal_embeddings_give_finite_losses(variant):
    detector = tiny_detector(variant)
    with torch.no_grad():
        for name, parameter in detector.named_parameters():
            if 'conv_embed' in name:
                parameter.zero_()
        if getattr(detector.bbox_head, 'position_scale', None) is not None:
            detector.bbox_head.position_scale.scale.zero_()
    train(detector, [sample(BOXES)])


@pytest.mark.parametrize('variant', VARIANTS)
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_margins_that_would_overflow_half_precision_stay_finite(variant, dtype):
    detector, data = tiny_detector(variant), sample(BOXES)
    with torch.no_grad():
        for name, parameter in detector.bbox_head.named_parameters():
            if name.startswith('conv_margin') and name.endswith('bias'):
                parameter.fill_(200.0)
    detector.train()
    with torch.autocast('cpu', dtype=dtype):
        losses = detector.loss(images([data]), [data])
    assert finite(losses)
    sum(losses.values()).backward()
    # gradients of the half-precision towers below may overflow: loss scaling is for that
    for name, parameter in detector.named_parameters():
        if 'conv_embed' in name or 'conv_margin' in name:
            assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize('variant', VARIANTS)
@pytest.mark.parametrize('size', [(97, 131), (33, 65), (50, 200)])
def test_odd_sizes_train_and_give_masks_of_the_image(variant, size):
    data = sample([[4.0, 4.0, 30.0, 30.0]], size)
    detector = tiny_detector(variant)
    train(detector, [data])
    detector.eval()
    data.set_metainfo(dict(ori_shape=(81, 77), scale_factor=(size[1] / 77, size[0] / 81)))
    with torch.no_grad():
        (result,) = detector.predict(images([data]), [data])
    assert result.pred_instances.masks.shape[1:] == (81, 77)


@pytest.mark.parametrize('variant', VARIANTS)
def test_rle_masks_equal_dense_ones(variant):
    data = sample(BOXES)
    data.set_metainfo(dict(ori_shape=(70, 90), scale_factor=(128 / 90, 96 / 70)))
    detector = tiny_detector(variant, mask_thr=0.01 if variant == 'v1' else 0.5).eval()
    with torch.no_grad():
        (dense,) = detector.predict(images([data]), [deepcopy(data)])
        detector.mask_head.test_cfg['mask_format'] = 'rle'
        (rle,) = detector.predict(images([data]), [deepcopy(data)])
    masks = dense.pred_instances.masks
    assert masks.dtype == torch.bool
    assert 0 < masks.float().mean() < 1
    assert torch.equal(to_dense(rle.pred_instances.masks, (70, 90)), masks)
    for mask, code in zip(masks.numpy(), rle.pred_instances.masks):
        assert code == coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))


@pytest.mark.parametrize('variant', VARIANTS)
@pytest.mark.parametrize('mask_format', ['dense', 'rle'])
def test_zero_detections_are_a_result(variant, mask_format):
    detector = tiny_detector(variant, mask_format=mask_format).eval()
    detector.bbox_head.test_cfg['score_thr'] = 1.0
    data = sample(BOXES)
    with torch.no_grad():
        (result,) = detector.predict(images([data]), [data])
    found = result.pred_instances
    assert len(found.scores) == len(found.masks) == 0
    assert found.bboxes.shape == (0, 4)
    if mask_format == 'dense':
        assert found.masks.shape == (0, 96, 128)


@pytest.mark.parametrize('variant', VARIANTS)
def test_one_class_is_enough(variant):
    data = sample(BOXES, labels=[0, 0])
    detector = tiny_detector(variant, classes=1)
    train(detector, [data])
    with torch.no_grad():
        (result,) = detector.eval().predict(images([data]), [data])
    assert set(result.pred_instances.labels.tolist()) == {0}


@pytest.mark.parametrize('variant', VARIANTS)
def test_batch_of_two_detects_what_two_single_images_do(variant):
    samples = [sample(BOXES), sample(BOXES[:1])]
    detector, pixels = tiny_detector(variant).eval(), images(samples)
    with torch.no_grad():
        together = detector.predict(pixels, deepcopy(samples))
        apart = [detector.predict(pixels[i][None], [deepcopy(samples[i])])[0] for i in range(2)]
    for joint, single in zip(together, apart):
        a, b = joint.pred_instances, single.pred_instances
        torch.testing.assert_close(a.scores, b.scores)
        torch.testing.assert_close(a.bboxes, b.bboxes, atol=1e-3, rtol=1e-4)
        assert (a.masks != b.masks).float().mean() < 1e-3


@pytest.mark.parametrize('variant', VARIANTS)
def test_nothing_survives_a_call(variant):
    detector, data = tiny_detector(variant), sample(BOXES)
    before = {name: set(vars(module)) for name, module in detector.named_modules()}
    detector.loss(images([data]), [deepcopy(data)])
    detector.eval().predict(images([data]), [deepcopy(data)])
    assert {name: set(vars(module)) for name, module in detector.named_modules()} == before


def test_embeddings_are_returned_on_request_only():
    data = sample(BOXES)
    detector = tiny_detector('v3', keep_embeds=True).eval()
    with torch.no_grad():
        (kept,) = detector.predict(images([data]), [deepcopy(data)])
        detector.mask_head.test_cfg['keep_embeds'] = False
        (plain,) = detector.predict(images([data]), [deepcopy(data)])
    assert kept.pred_instances.embeds.shape == kept.pred_instances.margins.shape == (6, 16)
    assert 'embeds' not in plain.pred_instances


def test_inclusive_boxes_are_exported_one_pixel_larger():
    data = sample(BOXES)
    detector = tiny_detector('v3').eval()
    with torch.no_grad():
        x = detector.extract_feat(images([data]))
        (native,) = detector.bbox_head.predict_by_feat(detector.bbox_head(x), [data.metainfo])
        (result,) = detector.predict(images([data]), [data])
    expected = native.bboxes + torch.tensor([0.0, 0.0, 1.0, 1.0])
    torch.testing.assert_close(result.pred_instances.bboxes, expected)
    assert native.bboxes[:, 2].max() <= 127
    assert native.bboxes[:, 3].max() <= 95


def rle(box: list[float]) -> dict:
    """A filled rectangle as stored in annotation files."""
    x1, y1, x2, y2 = map(int, box)
    bitmap = np.zeros((96, 128), np.uint8, order='F')
    bitmap[y1:y2, x1:x2] = 1
    code = coco_mask.encode(bitmap)
    return dict(size=code['size'], counts=code['counts'].decode())


def loaded(masks: list, poly2mask: bool) -> DetDataSample:
    """Two objects read by the stock loader."""
    instances = [
        dict(bbox=box, bbox_label=0, mask=mask, ignore_flag=0) for box, mask in zip(BOXES, masks)
    ]
    load = TRANSFORMS.build(
        dict(type='LoadAnnotations', with_bbox=True, with_mask=True, poly2mask=poly2mask)
    )
    results = load(dict(instances=instances, img_shape=(96, 128), ori_shape=(96, 128)))
    pack = TRANSFORMS.build(dict(type='PackDetInputs', meta_keys=('img_shape', 'ori_shape')))
    packed = pack({**results, 'img': np.zeros((96, 128, 3), np.uint8)})['data_samples']
    packed.set_metainfo(sample([]).metainfo)
    packed.gt_instances.bboxes = packed.gt_instances.bboxes.tensor
    return packed


def test_rle_ground_truth_teaches_as_bitmaps_do():
    detector = tiny_detector('v3')
    expected = detector.loss(images([sample([])]), [sample(BOXES, labels=[0, 0])])
    data = loaded([rle(box) for box in BOXES], poly2mask=True)
    ours = detector.loss(images([sample([])]), [data])
    for name, value in expected.items():
        torch.testing.assert_close(ours[name], value)


def test_rle_among_polygons_leaves_boxes_and_masks_aligned():
    # the stock loader ignores what is no polygon; the polygon must keep its own box
    corners = [50.0, 20.0, 110.0, 20.0, 110.0, 80.0, 50.0, 80.0]
    data = loaded([rle(BOXES[0]), [corners]], poly2mask=False)
    assert len(data.gt_instances) == 1
    (objects,) = objects_on_canvas([data.gt_instances], [data.metainfo], (96, 128))
    rows, columns = objects.masks[0].nonzero().unbind(1)
    spread = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert objects.bboxes[0].tolist() == pytest.approx([float(v) for v in spread], abs=1)


def test_missing_masks_are_refused_with_the_setting_that_helps():
    data = sample(BOXES)
    del data.gt_instances.masks
    with pytest.raises(ValueError, match='with_mask=True'):
        tiny_detector('v3').loss(images([data]), [data])


def test_predictions_are_refused_as_ground_truth():
    data = sample(BOXES)
    data.gt_instances.scores = torch.ones(len(BOXES))
    with pytest.raises(ValueError, match='train on annotated masks, without a teacher'):
        tiny_detector('v3').loss(images([data]), [data])


@pytest.mark.parametrize(
    ('option', 'value', 'message'),
    [('mask_format', 'png', 'mask_format'), ('mask_thr', 1.5, 'between 0 and 1, got 1.5')],
)
def test_unusable_test_settings_are_refused(option, value, message):
    detector, data = tiny_detector('v3', **{option: value}).eval(), sample(BOXES)
    with pytest.raises(ValueError, match=message), torch.no_grad():
        detector.predict(images([data]), [data])


def test_plain_forward_returns_raw_maps():
    detector = tiny_detector('v3')
    maps, pixels = detector(torch.randn(1, 3, 64, 96), mode='tensor')
    assert [tuple(e.shape) for e in maps.embeds][:2] == [(1, 16, 8, 12), (1, 16, 4, 6)]
    assert pixels.shape == (1, 16, 8, 12)


@pytest.mark.parametrize('variant', VARIANTS)
def test_heads_compile_without_a_graph_break(variant):
    detector = tiny_detector(variant).eval()
    x = [torch.randn(1, 64, max(1, 16 >> i), max(1, 24 >> i)) for i in range(5)]

    def heads(*levels):
        return detector.bbox_head(levels), detector.mask_head(levels, detector.bbox_head.position())

    with torch.no_grad():
        compiled = torch.compile(heads, fullgraph=True, backend='eager')(*x)
        plain = heads(*x)
    torch.testing.assert_close(compiled[0].embeds, plain[0].embeds)
    torch.testing.assert_close(compiled[1], plain[1])


def test_a_semantic_loss_of_other_classes_is_refused():
    model = tiny_config('adet', classes=3).model
    model.mask_head.num_classes = 4
    with pytest.raises(ValueError, match='mask_head.num_classes=4 but bbox_head.num_classes=3'):
        MODELS.build(model)
