"""The whole detector on ordinary and on difficult input."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from pycocotools import mask as coco_mask
from tiny_sipmask import images, sample, tiny_config, tiny_detector

from mmrefine.masks import to_dense

BOXES = [[8.0, 8.0, 70.0, 80.0], [60.0, 20.0, 150.0, 120.0]]
PLUS = {'mask': {'rescoring': True}}


def train(detector: torch.nn.Module, samples: list) -> dict[str, torch.Tensor]:
    """Losses of one step; checks that they and all gradients are finite."""
    detector.train()
    losses = detector.loss(images(samples), deepcopy(samples))
    assert all(loss.isfinite() for loss in losses.values()), losses
    sum(losses.values()).backward()
    for name, parameter in detector.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    return losses


def predict(detector: torch.nn.Module, samples: list, rescale: bool = True) -> list:
    detector.eval()
    with torch.no_grad():
        found = detector.predict(images(samples), deepcopy(samples), rescale=rescale)
    return [data.pred_instances for data in found]


@pytest.mark.parametrize(
    'options', [{}, PLUS, {'box': {'num_cells': 1}}, {'box': {'norm_cfg': None}}]
)
def test_one_step_reaches_every_parameter(options):
    losses = train(tiny_detector(**options), [sample(BOXES), sample(BOXES[:1])])
    names = {'loss_cls', 'loss_bbox', 'loss_centerness', 'loss_mask'}
    assert set(losses) == names | ({'loss_iou'} if options == PLUS else set())
    assert losses['loss_mask'] > 0.1


def test_learning_one_image_brings_the_mask_loss_down():
    detector, samples = tiny_detector(), [sample(BOXES)]
    optimizer = torch.optim.AdamW(detector.parameters(), lr=3e-3)
    history = []
    for _ in range(25):
        optimizer.zero_grad()
        losses = detector.loss(images(samples), deepcopy(samples))
        sum(losses.values()).backward()
        optimizer.step()
        history.append(float(losses['loss_mask']))
    assert history[-1] < 0.6 * history[0]


@pytest.mark.parametrize('options', [{}, PLUS])
def test_images_without_objects_give_zero_mask_loss(options):
    losses = train(tiny_detector(**options), [sample([]), sample([])])
    assert losses['loss_mask'] == losses['loss_bbox'] == losses.get('loss_iou', 0) == 0
    assert losses['loss_cls'] > 0


def test_an_image_of_crowds_only_counts_as_empty():
    crowd = sample([])
    crowd.ignored_instances = sample(BOXES).gt_instances
    losses = train(tiny_detector(), [crowd])
    assert losses['loss_mask'] == 0


def test_an_empty_image_halves_the_mask_loss_of_its_batch():
    detector = tiny_detector().eval()
    x = detector.extract_feat(images([sample(BOXES), sample([])]))
    both = detector.loss_by_feat(x, [sample(BOXES), sample([])])[0]
    alone = detector.loss_by_feat([level[:1] for level in x], [sample(BOXES)])[0]
    torch.testing.assert_close(both['loss_mask'] * 2, alone['loss_mask'])


@pytest.mark.parametrize(
    'boxes',
    [
        [[-40.0, -30, -5, -4]],
        [[150.0, 110, 400, 300]],
        [[80.0, 80, 20, 10]],
        [[30.0, 30, 30, 30]],
        [[30.0, 30, 30.4, 30.4], *BOXES],
        [[-500.0, -500, 900, 900]],
    ],
    ids=['outside', 'partly outside', 'inverted', 'empty', 'tiny', 'huge'],
)
def test_odd_boxes_train_without_nan(boxes):
    train(tiny_detector(), [sample(boxes)])


def test_no_positive_point_in_the_batch_is_a_size():
    losses = train(tiny_detector(), [sample([[33.0, 33, 35, 35]])])
    assert losses['loss_mask'] == losses['loss_bbox'] == 0


@pytest.mark.parametrize('size', [(64, 96), (96, 64), (75, 101), (33, 65), (131, 97)])
@pytest.mark.parametrize('options', [{}, PLUS])
def test_small_and_odd_images_train_and_predict(size, options):
    # P7 is smaller than the alignment's kernel here, and levels do not meet by factors of two.
    data = [sample([[4.0, 5, 30, 28]], size), sample([], size)]
    if size == (64, 96):
        train(tiny_detector(**options), data)
    for instances in predict(tiny_detector(**options), data):
        assert instances.masks.shape == (len(instances), *size)


def test_training_on_images_that_are_no_multiple_of_32_reaches_the_masks():
    losses = train(tiny_detector(), [sample([[4.0, 5, 60, 70]], (75, 101))])
    assert losses['loss_mask'] > 0


@pytest.mark.parametrize('mask_format', ['dense', 'rle'])
def test_zero_detections_keep_their_types(mask_format):
    options = {'test': {'score_thr': 0.999, 'mask_format': mask_format}}
    instances = predict(tiny_detector(**options, **PLUS), [sample(BOXES)])[0]
    assert len(instances.bboxes) == len(instances.scores) == len(instances.mask_scores) == 0
    assert len(instances.masks) == 0


def test_coefficients_below_the_threshold_give_empty_masks():
    detector = tiny_detector()
    torch.nn.init.zeros_(detector.bbox_head.conv_coeff.weight)
    torch.nn.init.constant_(detector.bbox_head.conv_coeff.bias, -5.0)
    torch.nn.init.constant_(detector.mask_head.conv_basis.bias, 1.0)
    instances = predict(detector, [sample(BOXES)])[0]
    assert len(instances) > 0
    assert not instances.masks.any()


@pytest.mark.parametrize('rescale', [True, False])
@pytest.mark.parametrize('rule', ['exact', 'floor', 'floor_single', 'floor_min'])
def test_run_length_output_equals_dense_output(rescale, rule):
    data = [
        sample(
            BOXES,
            (96, 128),
            ori_shape=(77, 103),
            img_shape=(95, 127),
            scale_factor=(127 / 103, 95 / 77),
        )
    ]
    dense = predict(tiny_detector(test={'scale': rule}), data, rescale)[0]
    coded = predict(tiny_detector(test={'scale': rule, 'mask_format': 'rle'}), data, rescale)[0]
    size = (77, 103) if rescale else (95, 127)
    assert dense.masks.shape == (len(dense), *size)
    assert torch.equal(to_dense(coded.masks, size), dense.masks)
    for rle, mask in zip(coded.masks, dense.masks):
        assert rle == coco_mask.encode(np.asfortranarray(mask.numpy().view(np.uint8)))
    assert dense.masks.any()


def test_exact_masks_do_not_depend_on_the_padding():
    detector = tiny_detector()
    small = sample(BOXES[:1], (64, 96))
    detector.eval().requires_grad_(False)
    outputs, basis = detector._forward(images([small]))
    result = detector.bbox_head.predict_by_feat(outputs, [small.metainfo])
    padded = torch.nn.functional.pad(basis, (0, 16, 0, 16))
    first, second = (
        detector.mask_head.predict_by_feat(maps, deepcopy(result), [small.metainfo])[0].masks
        for maps in (basis, padded)
    )
    assert (first != second).float().mean() < 1e-3


def test_masks_stay_inside_their_boxes():
    instances = predict(tiny_detector(), [sample(BOXES)])[0]
    for box, mask in zip(instances.bboxes, instances.masks):
        rows, columns = mask.nonzero(as_tuple=True)
        if len(rows):
            # Half-resolution cells reach two pixels beyond the box after smoothing.
            assert columns.min() >= box[0] - 3
            assert columns.max() <= box[2] + 3
            assert rows.min() >= box[1] - 3
            assert rows.max() <= box[3] + 3


def test_a_batch_of_two_equals_two_single_images():
    data = [sample(BOXES), sample(BOXES[:1])]
    detector = tiny_detector(test={'nms': {'type': 'fast', 'iou_threshold': 0.5}}).eval()
    # in double precision: some processors compute convolutions of two images in another order
    detector, batch = detector.double(), images(data).double()
    with torch.no_grad():
        together = detector.predict(batch, deepcopy(data))
        singles = [detector.predict(batch[i : i + 1], [deepcopy(data[i])])[0] for i in range(2)]
    for both, alone in zip(together, singles):
        torch.testing.assert_close(both.pred_instances.bboxes, alone.pred_instances.bboxes)
        assert torch.equal(both.pred_instances.masks, alone.pred_instances.masks)


def test_mask_scores_scale_the_detection_scores_only_for_masks():
    plain, plus = tiny_detector(), tiny_detector(**PLUS)
    plus.load_state_dict(plain.state_dict(), strict=False)
    torch.nn.init.zeros_(plus.mask_head.conv_scoring.weight)
    torch.nn.init.constant_(plus.mask_head.conv_scoring.bias, 0.5)
    first, second = predict(plain, [sample(BOXES)])[0], predict(plus, [sample(BOXES)])[0]
    assert torch.equal(first.scores, second.scores)
    torch.testing.assert_close(second.mask_scores, second.scores / 2)


def test_legacy_boxes_are_exported_one_pixel_larger():
    plain = predict(tiny_detector(), [sample(BOXES)])[0]
    legacy = predict(tiny_detector(test={'box_export_offset': 1}), [sample(BOXES)])[0]
    expected = plain.bboxes + torch.tensor([0.0, 0, 1, 1])
    assert torch.equal(legacy.bboxes, expected)


def test_unknown_mask_formats_are_refused_by_name():
    with pytest.raises(ValueError, match="mask_format must be one of .*'png'"):
        predict(tiny_detector(test={'mask_format': 'png'}), [sample(BOXES)])


def test_annotations_without_masks_are_refused_with_the_remedy():
    data = sample(BOXES)
    del data.gt_instances.masks
    with pytest.raises(ValueError, match='set with_mask=True'):
        tiny_detector().loss(images([data]), [data])


def test_predictions_are_refused_as_ground_truth():
    data = sample(BOXES)
    data.gt_instances.scores = torch.ones(len(BOXES))
    with pytest.raises(ValueError, match='train on annotated masks, without a teacher'):
        tiny_detector().loss(images([data]), [data])


def test_autocast_trains_with_finite_losses():
    detector = tiny_detector()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = detector.loss(images([sample(BOXES)]), [sample(BOXES)])
    sum(losses.values()).backward()
    assert all(loss.isfinite() and loss.dtype == torch.float32 for loss in losses.values())


def test_building_leaves_the_config_as_it_is():
    config = tiny_config(**PLUS)
    before = deepcopy(config)
    MODELS.build(config)
    assert config == before


def test_nothing_stays_on_the_modules_between_calls():
    detector = tiny_detector()
    before = {name: set(vars(module)) for name, module in detector.named_modules()}
    train(detector, [sample(BOXES)])
    predict(detector, [sample(BOXES)])
    after = {name: set(vars(module)) for name, module in detector.named_modules()}
    assert before == after


def test_heads_of_other_classes_are_refused():
    with pytest.raises(ValueError, match='mask_head.num_classes=4 but bbox_head.num_classes=3'):
        tiny_detector(mask={'num_classes': 4, 'rescoring': True})


def test_a_missing_number_of_classes_is_named():
    config = tiny_config()
    del config['bbox_head']['num_classes']
    with pytest.raises(TypeError, match="SipMaskBBoxHead.*'num_classes'"):
        MODELS.build(config)
