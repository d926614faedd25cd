"""Write a whole detector as one ONNX file, and compare it with the model through ``runtime``."""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmdet.apis import inference_detector
from mmdet.models import DetDataPreprocessor
from mmdet.utils import get_test_pipeline_cfg
from mmengine.structures import InstanceData
from torch import nn

from mmrefine.apis.class_names import class_names
from mmrefine.masks import to_dense
from mmrefine.masks.stock_heads import set_mask_format
from mmrefine.results.files import atomic_file

from .detections import DetectorGraph
from .onnx_file import UnusableGraph, check_size, needed, trace_graph
from .parts import RoIPart, SipMaskPart
from .runtime import KEY, Detector

# of a test pipeline whose result the reader can repeat
STEPS = ('LoadImageFromFile', 'Resize', 'LoadAnnotations', 'LoadMaskAnnotations', 'PackDetInputs')


class Agreement(NamedTuple):
    """File and model on one image."""

    objects: int
    boxes: float  # largest difference, pixels of the image
    scores: float
    pixels: int  # that differ, in all masks


def export_detector(
    model: nn.Module, path: str | Path, image_size: tuple[int, int] = (320, 320)
) -> DetectorGraph:
    """Write images in, detections and masks out, with the settings that ``runtime`` reads.

    Args:
        model: As ``load_model`` gives it, with its config as ``cfg``; on the CPU.
        path: The file.
        image_size: ``(h, w)`` of the input used for tracing, in pixels, multiples of 32. Others
            work as well, unless the backbone splits the image into windows.

    Raises:
        TypeError: The model is none that can be exported whole.
        ValueError: A setting or a layer that has no ONNX form.
    """
    onnx = needed('onnx')
    check_size(image_size)
    graph = DetectorGraph(model).eval()
    settings = json.dumps(describe(graph))
    example = torch.randn(1, 3, *image_size), torch.tensor(image_size)
    axes: dict[str, dict[int, str]] = {'image': {2: 'height', 3: 'width'}}
    axes.update({name: {0: 'count'} for name in graph.output_names})
    if graph.part.open_masks:
        axes['masks'].update({1: 'mask_h', 2: 'mask_w'})
    file = trace_graph(graph, example, graph.input_names, graph.output_names, axes)
    onnx.helper.set_model_props(file, {KEY: settings})
    with atomic_file(path, 'wb') as out:
        out.write(file.SerializeToString())
    return graph


def describe(graph: DetectorGraph) -> dict[str, Any]:
    """What a program without the model needs: preprocessing, classes, and how masks are drawn.

    Raises:
        ValueError: A test pipeline other than one resizing, or another unknown step.
    """
    model = graph.model
    pipeline = get_test_pipeline_cfg(model.cfg)
    others = [dict(step) for step in pipeline if _kind(step) not in STEPS]
    if others or any(step.get('imdecode_backend', 'cv2') != 'cv2' for step in pipeline):
        raise ValueError(
            f'the test pipeline may have {", ".join(STEPS)} (of files read by cv2), got '
            f'{others or dict(pipeline[0])}'
        )
    steps = [step for step in pipeline if _kind(step) == 'Resize']
    if len(steps) != 1 or 'scale' not in steps[0]:
        raise ValueError(
            'the test pipeline must resize once, by Resize with a scale, got '
            f'{[dict(step) for step in steps]}'
        )
    if steps[0].get('backend', 'cv2') != 'cv2' or steps[0].get('interpolation') not in (
        None,
        'bilinear',
    ):
        raise ValueError(f'{dict(steps[0])} has no form here: bilinear with cv2 has')
    scale = steps[0]['scale']
    preprocessor = model.data_preprocessor
    if not isinstance(preprocessor, DetDataPreprocessor):
        raise ValueError(f'{type(preprocessor).__name__} has no form here: DetDataPreprocessor has')
    normal = getattr(preprocessor, '_enable_normalize', False)
    return {
        'classes': list(class_names(model)),
        'scale': [scale, scale] if isinstance(scale, int) else list(scale),
        'keep_ratio': bool(steps[0].get('keep_ratio', False)),
        'mean': preprocessor.mean.flatten().tolist() if normal else [0.0] * 3,
        'std': preprocessor.std.flatten().tolist() if normal else [1.0] * 3,
        'to_rgb': bool(preprocessor._channel_conversion),
        'pad_divisor': int(preprocessor.pad_size_divisor),
        'pad_value': float(preprocessor.pad_value),
        'box_offset': _box_offset(model),
        'masks': _mask_settings(graph),
    }


def _kind(step: Mapping[str, Any]) -> str:
    """Class of a step that is given by a name, with or without scope, or as a class."""
    return getattr(step['type'], '__name__', str(step['type'])).rpartition('.')[2]


def _box_offset(model: nn.Module) -> int:
    head = getattr(model, 'bbox_head', None)
    exported = getattr(head, 'test_cfg', None) or {}
    return int(getattr(head, 'pixel_offset', exported.get('box_export_offset', 0)))


def _mask_settings(graph: DetectorGraph) -> dict[str, Any]:
    model = graph.model
    if isinstance(graph.part, RoIPart):
        return {'kind': 'roi', 'threshold': float(model.test_cfg.rcnn.get('mask_thr_binary', 0.5))}
    cfg = model.mask_head.test_cfg or {}
    if isinstance(graph.part, SipMaskPart):
        rule = cfg.get('scale', 'exact')
        if rule not in ('exact', 'floor', 'floor_single') or cfg.get('scale_limits'):
            raise ValueError(
                f'test_cfg.scale={rule!r} with scale_limits={cfg.get("scale_limits")} is not '
                "exported: set scale='exact' and scale_limits=None"
            )
        threshold = cfg.get('mask_thr', 0.4)
        return {'kind': 'map', 'threshold': float(threshold), 'rule': rule, 'stride': 2}
    output = model.mask_head.output
    threshold = cfg.get('mask_thr', 0.5)
    threshold = math.log(threshold) if output.log_space else float(threshold)
    return {'kind': 'map', 'threshold': threshold, 'rule': 'ceil', 'stride': output.stride}


def compare_detector(
    model: nn.Module, path: str | Path, images: Iterable[np.ndarray]
) -> list[Agreement]:
    """Run file and model on images, uint8 [h, w, 3] in the order of colours of OpenCV.

    Raises:
        UnusableGraph: onnxruntime cannot run the file, or another number of objects is found.
    """
    needed('onnxruntime')
    set_mask_format(model, 'rle')
    detector, found = None, []
    for image in images:
        expected = inference_detector(model, image).pred_instances.numpy()
        try:
            detector = detector or Detector(path)
            ours = detector(image)
        except Exception as error:  # onnxruntime's errors share no base of their own
            raise UnusableGraph(f'onnxruntime cannot run {path}: {error}') from error
        if len(ours['scores']) != len(expected):
            raise UnusableGraph(
                f'{len(ours["scores"])} objects in the graph, {len(expected)} in the model'
            )
        found.append(_agreement(ours, expected, image.shape[:2]))
    return found


def _agreement(ours: dict[str, Any], expected: InstanceData, size: tuple[int, int]) -> Agreement:
    if len(expected) == 0:
        return Agreement(0, 0.0, 0.0, 0)
    # Equal scores leave the order to the runtime: each object is compared with its nearest.
    gaps = np.abs(ours['boxes'][:, None] - expected.bboxes[None]).max(2)
    gaps = gaps + 1e6 * (ours['labels'][:, None] != expected.labels[None])
    nearest = gaps.argmin(1)
    scores = np.abs(ours['scores'] - expected.scores[nearest]).max()
    masks = to_dense([expected.masks[int(i)] for i in nearest], size)
    differ = int((to_dense(ours['masks'], size) != masks).sum())
    return Agreement(len(expected), float(gaps.min(1).max()), float(scores), differ)
