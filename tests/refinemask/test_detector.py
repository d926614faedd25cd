"""The whole detector: training and inference on ordinary and on difficult batches."""

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.engine.hooks import CheckInvalidLossHook
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from tiny_refinemask import BOXES, NARROW, images, probabilities, sample, tiny_detector

from mmrefine.masks import RLEMasks, to_dense

KINDS = ['RefineMaskHead', 'SimpleRefineMaskHead']


def mask_losses(losses: dict) -> dict[str, torch.Tensor]:
    """The losses of the mask branch."""
    return {k: v for k, v in losses.items() if k in ('loss_instance', 'loss_semantic')}


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('polygons', [True, False])
def test_training_step(kind: str, polygons: bool) -> None:
    detector = tiny_detector(kind)
    batch = [sample(BOXES, polygons=polygons), sample(BOXES[:1], polygons=polygons)]
    losses = detector.loss(images(2), batch)
    assert set(mask_losses(losses)) == {'loss_instance'} | (
        {'loss_semantic'} if kind == 'RefineMaskHead' else set()
    )
    total, _ = detector.parse_losses(losses)
    total.backward()
    for name, parameter in detector.roi_head.mask_head.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('boxes', [[[], []], [BOXES, []], [[[5.0, 5.0, 5.5, 9.0]], BOXES]])
def test_images_without_objects(kind: str, boxes: list) -> None:
    detector = tiny_detector(kind)
    losses = detector.loss(images(2), [sample(b) for b in boxes])
    total, _ = detector.parse_losses(losses)
    total.backward()
    assert torch.isfinite(total)
    assert all(p.grad is not None for p in detector.roi_head.mask_head.parameters())


@pytest.mark.parametrize('kind', KINDS)
def test_no_proposals_at_all(kind: str) -> None:
    detector = tiny_detector(kind).eval()
    feats = detector.extract_feat(images(1))
    results = detector.roi_head.predict_mask(
        feats, [sample([]).metainfo], [detector_results(0)], rescale=True
    )
    assert results[0].masks.shape == (0, 96, 128)


def detector_results(count: int) -> InstanceData:
    """Detections as the box head leaves them."""
    return InstanceData(
        bboxes=torch.tensor(BOXES)[:count],
        labels=torch.arange(count),
        scores=torch.ones(count),
    )


@pytest.mark.parametrize('rescale', [True, False])
@pytest.mark.parametrize('container', [list, np.array, torch.tensor])
def test_sizes_and_scales_may_come_in_any_container(container: Callable, rescale: bool) -> None:
    detector = tiny_detector().eval()
    plain = dict(img_shape=(96, 128), ori_shape=(48, 80), scale_factor=(1.6, 2.0))
    other = dict(
        img_shape=container([96, 128, 3]),
        ori_shape=container([48, 80, 3]),
        scale_factor=container([1.6, 2.0]),
    )
    with torch.no_grad():
        x = detector.extract_feat(images(1))
        expected, found = (
            detector.roi_head.predict_mask(x, [meta], [detector_results(3)], rescale=rescale)[0]
            for meta in (plain, other)
        )
    assert found.masks.shape == ((3, 48, 80) if rescale else (3, 96, 128))
    assert torch.equal(found.masks, expected.masks) and expected.masks.any()
    scale = torch.tensor([1.6, 2.0, 1.6, 2.0]) if rescale else 1.0
    torch.testing.assert_close(found.bboxes, torch.tensor(BOXES) / scale)


@pytest.mark.parametrize('kind', KINDS)
def test_inference_formats_agree(kind: str) -> None:
    detector = tiny_detector(kind).eval()
    batch = [sample(BOXES), sample([])]
    with torch.no_grad():
        dense = detector.predict(images(2), batch)
        detector.roi_head.test_cfg.mask_format = 'rle'
        coded = detector.predict(images(2), [sample(BOXES), sample([])])
    for a, b in zip(dense, coded):
        masks = a.pred_instances.masks
        assert masks.shape[1:] == (96, 128) and masks.dtype == torch.bool
        assert isinstance(b.pred_instances.masks, RLEMasks)
        assert torch.equal(masks, to_dense(b.pred_instances.masks, (96, 128)))


@pytest.mark.parametrize('chunk', [1, 2, 100])
def test_chunks_change_nothing(chunk: int) -> None:
    detector = tiny_detector().eval()
    x = detector.extract_feat(images(2))
    rois = torch.cat([torch.tensor([[0.0], [1.0], [0.0]]), torch.tensor(BOXES)], 1)
    labels = torch.arange(3)
    expected = probabilities(detector.roi_head, x, rois, labels)
    detector.roi_head.test_cfg.mask_chunk = chunk
    actual = probabilities(detector.roi_head, x, rois, labels)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_reduced_precision_option_nearly_agrees() -> None:
    detector = tiny_detector().eval()
    x = detector.extract_feat(images(2))
    rois = torch.cat([torch.zeros(3, 1), torch.tensor(BOXES)], 1)
    full = probabilities(detector.roi_head, x, rois, torch.arange(3))
    detector.roi_head.test_cfg.mask_dtype = 'bfloat16'
    low = probabilities(detector.roi_head, x, rois, torch.arange(3))
    assert low.dtype == torch.float32
    assert ((low - full).abs() > 0.1).float().mean() < 0.02


@pytest.mark.parametrize(
    'option, message',
    [
        (dict(mask_format='png'), "'dense', 'rle'.*'png'"),
        (dict(mask_dtype='bf16'), "'bfloat16'.*got 'bf16'"),
    ],
)
def test_unknown_options_name_the_choices(option: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_detector(**option).eval().predict(images(1), [sample(BOXES)])


@pytest.mark.parametrize('where', ['weights', 'features'])
def test_nan_is_an_error_not_an_empty_mask(where: str) -> None:
    detector = tiny_detector().eval()
    x = list(detector.extract_feat(images(1)))
    if where == 'weights':
        detector.roi_head.mask_head.stages[1].fuse_transform_out.bias.data[0] = float('nan')
    else:
        x[0] = torch.full_like(x[0], float('nan'))
    with pytest.raises(FloatingPointError, match='not finite'):
        detector.roi_head.predict_mask(
            x, [sample(BOXES).metainfo], [detector_results(2)], rescale=True
        )


def test_nan_in_training_stops_the_run() -> None:
    detector = tiny_detector()
    detector.roi_head.mask_head.instance_convs[0].conv.weight.data[0] = float('nan')
    total, _ = detector.parse_losses(detector.loss(images(1), [sample(BOXES)]))
    said: list[str] = []
    runner = SimpleNamespace(logger=SimpleNamespace(info=said.append), iter=0)
    with pytest.raises(AssertionError):
        CheckInvalidLossHook(interval=1).after_train_iter(runner, 0, None, dict(loss=total))
    assert 'infinite or NaN' in said[0]


@pytest.mark.parametrize('kind', KINDS)
def test_roi_head_trains_and_predicts_under_bf16_autocast(kind: str) -> None:
    detector = tiny_detector(kind)
    data = sample(BOXES)

    def proposals() -> list[InstanceData]:
        # mmcv's NMS kernel for the CPU has no bf16: proposals come from outside
        return [InstanceData(bboxes=torch.tensor(BOXES) + 2, scores=torch.ones(3))]

    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = detector.roi_head.loss(detector.extract_feat(images(1)), proposals(), [data])
    total, _ = detector.parse_losses(losses)
    total.backward()
    assert all(torch.isfinite(p.grad).all() for p in detector.roi_head.mask_head.parameters())
    detector.eval()
    with torch.no_grad(), torch.autocast('cpu', dtype=torch.bfloat16):
        x = detector.extract_feat(images(1))
        assert x[0].dtype == torch.bfloat16
        result = detector.roi_head.predict(x, proposals(), [data])[0]
    assert len(result) and result.masks.dtype == torch.bool


@pytest.mark.parametrize('size', [(1, 1), (37, 51)])
def test_odd_image_sizes(size: tuple[int, int]) -> None:
    preprocessor = DetDataPreprocessor(pad_size_divisor=32, pad_mask=True)
    detector = tiny_detector()
    detector.backbone.norm_eval = True  # BatchNorm refuses the 1x1 maps of a single tiny image
    detector.train()
    boxes = [[0.0, 0.0, float(size[1]), float(size[0])]]
    data = preprocessor(
        dict(inputs=[torch.zeros(3, *size)], data_samples=[sample(boxes, size)]), training=True
    )
    total, _ = detector.parse_losses(detector.loss(data['inputs'], data['data_samples']))
    assert torch.isfinite(total)
    detector.eval()
    result = detector.predict(data['inputs'], data['data_samples'])[0]
    assert result.pred_instances.masks.shape[1:] == size


def test_ground_truth_without_masks_names_the_fix() -> None:
    data = sample(BOXES)
    del data.gt_instances.masks
    with pytest.raises(ValueError, match='with_mask=True'):
        tiny_detector().loss(images(1), [data])


def test_images_of_different_sizes_in_one_batch() -> None:
    preprocessor = DetDataPreprocessor(pad_size_divisor=32, pad_mask=True)
    sizes = [(96, 128), (70, 60)]
    batch = [sample(BOXES[:1], size, polygons=index == 0) for index, size in enumerate(sizes)]
    inputs = [torch.zeros(3, *size) for size in sizes]
    data = preprocessor(dict(inputs=inputs, data_samples=batch), training=True)
    detector = tiny_detector()
    losses = detector.loss(data['inputs'], data['data_samples'])
    assert all(torch.isfinite(loss) for loss in mask_losses(losses).values())
    with torch.no_grad():
        results = detector.eval().predict(data['inputs'], data['data_samples'])
    assert [tuple(r.pred_instances.masks.shape[1:]) for r in results] == sizes


def test_class_counts_must_agree() -> None:
    config = ConfigDict(tiny_config(), mask_head=dict(NARROW, type='RefineMaskHead', num_classes=5))
    with pytest.raises(ValueError, match='num_classes=5 but bbox_head.num_classes=3'):
        MODELS.build(config)


def test_class_count_follows_the_box_head() -> None:
    config = ConfigDict(tiny_config(), mask_head=dict(NARROW, type='RefineMaskHead'))
    assert MODELS.build(config).mask_head.stage_classes == [3, 3, 3, 3]


def tiny_config() -> dict:
    """A RoI head without its mask head."""
    layer = dict(type='RoIAlign', output_size=14, sampling_ratio=0)
    extractor = dict(
        type='SingleRoIExtractor', roi_layer=layer, out_channels=16, featmap_strides=[4, 8]
    )
    return dict(
        type='RefineRoIHead',
        bbox_roi_extractor=extractor,
        bbox_head=dict(type='Shared2FCBBoxHead', in_channels=16, fc_out_channels=8, num_classes=3),
        mask_roi_extractor=extractor,
    )


@pytest.mark.parametrize('classes', [1, 3])
def test_class_counts(classes: int) -> None:
    detector = tiny_detector(classes=classes)
    data = sample(BOXES)
    data.gt_instances.labels %= classes
    total, _ = detector.parse_losses(detector.loss(images(1), [data]))
    assert torch.isfinite(total)
    with torch.no_grad():
        result = detector.eval().predict(images(1), [sample(BOXES)])[0].pred_instances
    assert len(result) and result.labels.max() < classes


def test_a_fine_level_counts_from_the_finest() -> None:
    config = tiny_detector().roi_head
    with pytest.raises(ValueError, match='fine_level counts from 0, the finest, got -1'):
        type(config)(fine_level=-1)


def test_any_extractor_and_fine_level() -> None:
    detector = tiny_detector()
    head = detector.roi_head
    config = tiny_config()['mask_roi_extractor']
    head.mask_roi_extractor = MODELS.build(dict(config, type='GenericRoIExtractor'))
    head.fine_level, head.mask_head.semantic_stride = 1, 8
    for stage in head.mask_head.stages:
        stage.stride = 8
    total, _ = detector.parse_losses(detector.loss(images(1), [sample(BOXES)]))
    total.backward()
    assert torch.isfinite(total)


def test_levels_side_by_side_are_wider_than_the_fine_map() -> None:
    config = tiny_config()
    extractor = dict(config['mask_roi_extractor'], type='GenericRoIExtractor', aggregation='concat')
    narrow = {k: v for k, v in NARROW.items() if not k.startswith('conv_in')}
    head = dict(narrow, type='RefineMaskHead')
    roi_head = MODELS.build(
        dict(config, mask_roi_extractor=dict(extractor, out_channels=32), mask_head=head)
    )
    x = tuple(torch.randn(1, 16, side, side) for side in (24, 12))
    rois = torch.tensor([[0.0, 8.0, 8.0, 60.0, 50.0]])
    pooled, fine = roi_head.mask_inputs(x, rois)
    assert (pooled.shape[1], fine.shape[1]) == (32, 16)
    assert roi_head._mask_forward(x, rois)['mask_preds'].shape == (1, 1, 112, 112)
    roi_head = MODELS.build(dict(config, mask_roi_extractor=extractor, mask_head=head))
    with pytest.raises(ValueError, match='gives 16 .*out_channels is 16: set it to 32'):
        roi_head.mask_inputs(x, rois)
