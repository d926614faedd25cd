"""Whole detectors in one file, run by NumPy and onnxruntime, against the models."""

import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny_embedmask
import tiny_sipmask
from hypothesis import given
from hypothesis import strategies as st
from locations import ROOT
from mmdet.datasets.transforms import Resize
from mmdet.registry import MODELS as MODELS_REGISTRY
from mmengine.config import Config, ConfigDict
from pycocotools import mask as coco_mask
from tiny_export import refine_model, sharp_model, sip_model, window_model
from tiny_stock_models import tiny_stock_model
from tiny_training import run
from torch import nn

from mmrefine.export import runtime
from mmrefine.export.detections import DetectorGraph
from mmrefine.export.detector_file import compare_detector, describe, export_detector
from mmrefine.export.onnx_file import export_onnx

SIZE = (128, 160)
MODELS: dict[str, Callable[[], nn.Module]] = {
    'RefineMask': lambda: refine_model('RefineMaskHead'),
    'RefineMask, faster': lambda: refine_model('SimpleRefineMaskHead'),
    'RefineMask, Seesaw': lambda: with_seesaw(refine_model('RefineMaskHead')),
    'SharpMask head': sharp_model,
    'SharpMask head, relative': lambda: sharp_model('relative'),
    'SipMask': sip_model,
    'SipMask, fast': lambda: with_nms(sip_model(), type='fast', iou_threshold=0.5, top_k=50),
    'SipMask, few pairs': lambda: with_settings(
        sip_model(), candidates='pairs', nms_pre=30, max_candidates=40, max_per_img=12
    ),
    'SipMask, few points': lambda: with_settings(sip_model(), nms_pre=9, score_sqrt=True),
    'SipMask, boxes with an area': lambda: with_settings(sip_model(), min_bbox_size=0),
    'EmbedMask v1': lambda: tiny_embedmask.tiny_detector('v1').eval(),
    'EmbedMask v2': lambda: tiny_embedmask.tiny_detector('v2').eval(),
    'EmbedMask v3': lambda: tiny_embedmask.tiny_detector('v3').eval(),
}


def with_settings(model: nn.Module, **settings: object) -> nn.Module:
    model.bbox_head.test_cfg.update(settings)
    return model


def with_seesaw(model: nn.Module) -> nn.Module:
    """Classes with an objectness of their own."""
    head = model.roi_head.bbox_head
    head.loss_cls = MODELS_REGISTRY.build(dict(type='SeesawLoss', num_classes=head.num_classes))
    head.fc_cls = nn.Linear(head.fc_cls.in_features, head.num_classes + 2)
    return model


def with_nms(model: nn.Module, **settings: object) -> nn.Module:
    return with_settings(model, nms=ConfigDict(settings))


def with_pipeline(model: nn.Module, scale: tuple[int, int] = (160, 120)) -> nn.Module:
    """What ``init_detector`` adds: a config and class names."""
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=scale, keep_ratio=True),
        dict(
            type='PackDetInputs',
            meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
        ),
    ]
    model.cfg = Config(dict(test_dataloader=dict(dataset=dict(pipeline=pipeline))))
    model.dataset_meta = dict(classes=('a', 'b', 'c'))
    model.data_preprocessor = MODELS_REGISTRY.build(
        dict(type='DetDataPreprocessor', mean=[120.0, 110, 100], std=[60.0, 50, 55],
             bgr_to_rgb=True, pad_size_divisor=32)
    )  # fmt: skip
    return model


def noise(height: int, width: int) -> np.ndarray:
    """A picture of random pixels."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize('name', MODELS)
def test_file_finds_what_the_model_finds(name: str, tmp_path: Path) -> None:
    model = with_pipeline(MODELS[name]())
    export_detector(model, tmp_path / 'detector.onnx', SIZE)
    # Neither has the size of the traced input: one lies, one stands.
    for found in compare_detector(
        model, tmp_path / 'detector.onnx', [noise(90, 150), noise(211, 140)]
    ):
        assert found.objects > 0
        assert found.boxes < 1e-3 and found.scores < 1e-5
        assert found.pixels <= 2  # values at the threshold to six digits


def test_classes_come_from_the_config_where_weights_name_others() -> None:
    model = with_pipeline(sip_model())
    model.dataset_meta = dict(classes=[f'COCO {i}' for i in range(80)])  # as mmdet assumes
    dataset = dict(type='CocoDataset', ann_file='', metainfo=dict(classes=('a', 'b', 'c')))
    model.cfg.test_dataloader.dataset.update(dataset)
    assert describe(DetectorGraph(model))['classes'] == ['a', 'b', 'c']


@pytest.mark.parametrize('name', ['RefineMask', 'SharpMask head', 'SipMask', 'EmbedMask v1'])
def test_openvino_runs_the_same_file(name: str, tmp_path: Path) -> None:
    openvino = pytest.importorskip('openvino')
    export_detector(with_pipeline(MODELS[name]()), tmp_path / 'detector.onnx', SIZE)
    detector = runtime.Detector(tmp_path / 'detector.onnx')
    pixels, size = detector.prepare(noise(211, 140))
    inputs = {'image': pixels, 'size': np.array(size)}
    inputs = {key: value for key, value in inputs.items() if key in detector.inputs}
    exact = {'INFERENCE_PRECISION_HINT': 'f32'}
    found = openvino.compile_model(tmp_path / 'detector.onnx', 'CPU', exact)(inputs)
    for key, expected in zip(detector.outputs, detector.session.run(None, inputs)):
        assert len(expected) > 0
        np.testing.assert_allclose(found[key], expected, atol=1e-3, rtol=1e-5)


def test_images_without_objects_are_images(tmp_path: Path) -> None:
    model = with_pipeline(sip_model())
    model.bbox_head.test_cfg['score_thr'] = 0.999
    export_detector(model, tmp_path / 'detector.onnx', SIZE)
    assert compare_detector(model, tmp_path / 'detector.onnx', [noise(90, 150)]) == [(0, 0, 0, 0)]


def test_what_has_no_graph_is_named(tmp_path: Path) -> None:
    def export(model: nn.Module) -> None:
        export_detector(with_pipeline(model), tmp_path / 'detector.onnx', SIZE)

    with pytest.raises(TypeError, match='has no mask head to export'):
        export(tiny_stock_model('mask_rcnn/mask-rcnn_r50_fpn_1x_coco'))
    with pytest.raises(TypeError, match='DeepMask is exported without its detections only'):
        export(window_model())
    with pytest.raises(ValueError, match="enlarge='aligned'"):
        export(tiny_embedmask.tiny_detector('adet'))
    with pytest.raises(ValueError, match='soft_nms.* has no ONNX form'):
        export(with_nms(sip_model(), type='soft_nms', iou_threshold=0.5))
    with pytest.raises(ValueError, match='min_bbox_size depends on the size of the original'):
        export(with_settings(sip_model(), min_bbox_size=4))
    floor = sip_model()
    floor.mask_head.test_cfg['scale'] = 'floor_min'
    with pytest.raises(ValueError, match="set scale='exact'"):
        export(floor)
    assert not list(tmp_path.iterdir())


def test_layers_without_onnx_form_are_named_before_a_file_is_written(tmp_path: Path) -> None:
    config = tiny_sipmask.tiny_config()
    config['backbone'] |= dict(
        depth=50, dcn=dict(type='DCN', deform_groups=1), stage_with_dcn=(False, False, False, True)
    )
    config['neck'] |= dict(in_channels=[32, 64, 128, 256])
    model = with_pipeline(MODELS_REGISTRY.build(config).eval())
    with pytest.raises(ValueError, match=r'without ONNX form \(MMCVDeformConv2d\)'):
        export_detector(model, tmp_path / 'sipmask.onnx', SIZE)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('kind', ['Resize', 'mmdet.Resize', Resize])
def test_a_resize_may_be_named_or_given(kind: object) -> None:
    model = with_pipeline(sip_model())
    step = model.cfg.test_dataloader.dataset.pipeline[1]
    step.type = kind
    assert describe(DetectorGraph(model))['scale'] == [160, 120]
    step.type = 'mmdet.RandomResize'
    with pytest.raises(ValueError, match='may have LoadImageFromFile, .*RandomResize'):
        describe(DetectorGraph(model))
    model.cfg.test_dataloader.dataset.pipeline.pop(1)
    with pytest.raises(ValueError, match='must resize once'):
        describe(DetectorGraph(model))


@pytest.mark.parametrize(
    'step',
    [dict(type='Pad', size_divisor=32), dict(type='mmdet.FixShapeResize', width=9, height=9)],
)
def test_steps_that_the_reader_cannot_repeat_are_refused(step: dict) -> None:
    model = with_pipeline(sip_model())
    model.cfg.test_dataloader.dataset.pipeline.insert(2, step)
    with pytest.raises(ValueError, match=f'may have LoadImageFromFile, .*{step["type"]}'):
        describe(DetectorGraph(model))


def test_files_read_by_another_program_are_refused() -> None:
    model = with_pipeline(sip_model())
    model.cfg.test_dataloader.dataset.pipeline[0].imdecode_backend = 'pillow'
    with pytest.raises(ValueError, match='read by cv2.*pillow'):
        describe(DetectorGraph(model))


def test_a_size_off_the_pyramid_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r'multiples of 32 of at least 64, got \(0, 0\)'):
        export_detector(with_pipeline(sip_model()), tmp_path / 'detector.onnx', (0, 0))


def test_other_files_and_images_are_refused(tmp_path: Path) -> None:
    part = export_onnx(refine_model('RefineMaskHead'), tmp_path / 'head.onnx', (256, 256))
    assert part.output_names == ('masks',)
    with pytest.raises(ValueError, match='no detector written by'):
        runtime.Detector(tmp_path / 'head.onnx')
    export_detector(with_pipeline(sip_model()), tmp_path / 'detector.onnx', SIZE)
    detector = runtime.Detector(tmp_path / 'detector.onnx')
    with pytest.raises(ValueError, match=r'an image is uint8 \[h, w, 3\], got float64 \(4, 5\)'):
        detector(np.zeros((4, 5)))


def test_reader_needs_no_torch() -> None:
    code = f"""
import runpy, sys
runpy.run_path({str(ROOT / 'mmrefine' / 'export' / 'runtime.py')!r})
loaded = {{'torch', 'mmdet', 'mmcv', 'cv2', 'mmrefine'}} & set(sys.modules)
sys.exit(str(loaded) if loaded else 0)
"""
    run(sys.executable, '-c', code)


sides = st.integers(1, 40)


@given(sides, sides, sides, sides, st.integers(0, 1000))
def test_resizing_is_that_of_opencv(h: int, w: int, height: int, width: int, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8)
    expected = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(runtime.resize(image, (height, width)), expected)


@given(sides, sides, st.integers(0, 1000))
def test_run_lengths_are_those_of_pycocotools(h: int, w: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, columns = rng.integers(0, h + 1), rng.integers(0, w + 1)
    y, x = rng.integers(0, h - rows + 1), rng.integers(0, w - columns + 1)
    crop = rng.random((rows, columns)) < rng.random()
    image = np.zeros((h, w), np.uint8, order='F')
    image[y : y + rows, x : x + columns] = crop
    assert runtime.encode(crop, int(x), int(y), (h, w)) == coco_mask.encode(image)
