"""Whole detectors: this package's and MMDetection's, same backbone, same image, same boxes.

Every model has random weights, a ResNet-50 whose batch norms are fitted to the image, and 80
classes. Measured is the way from a normalised image to N boolean masks of the original image's
size, or on to N RLEs of them, which stock models encode from the boolean ones. So that the models
do the same work although none has learnt anything,

* the score threshold lets 1,000 (box, class) pairs pass, as many in every model (SOLOv2, whose
  candidates each cost a mask of the whole map: 2 N; YOLACT and the real-time SipMask, which
  suppress before the threshold: all), and at most N are kept;
* between boxes and masks the same N boxes, of COCO's mean area, take the place of what the model
  found (SOLOv2 and RTMDet-Ins make masks without boxes).

What is left out: reading and resizing the image.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import encode_mask_results
from mmengine.config import ConfigDict
from mmengine.hub import get_config
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mmrefine.sipmask import align  # noqa: F401  (defines the operator counted below)

from .harness import Row, interleave, peak_memory
from .sipmask import draw_boxes

Shape = Sequence[int]

BASELINE = 'Mask R-CNN'
CANDIDATES = 1000
# Bias of a distance predictor: boxes of some cells instead of none.
DISTANCE = 4.0
# Bias of a centerness predictor: 1 after the sigmoid, so that products with it pass the threshold
# as often as the class scores themselves.
CENTERED = 20.0


@dataclass(frozen=True)
class Kind:
    """How a family of detectors is brought to N masks of given boxes."""

    scores: str  # modules that end in class logits, by name
    boxes: str | None  # method whose results get the given boxes, by name; None for models without
    distances: str | None = None  # modules that predict the sides of boxes, by name
    softmax: bool = False  # classes exclude each other, the last one is the background
    # suppression looks at a fixed number of boxes of every class, and the threshold comes after it
    parallel: bool = False


TWO_STAGE = Kind('roi_head.bbox_head.fc_cls', 'roi_head.predict_bbox', softmax=True)
CONDINST = Kind('bbox_head.conv_cls', 'bbox_head.predict', 'bbox_head.conv_reg')
YOLACT = Kind('bbox_head.conv_cls', 'bbox_head.predict', parallel=True)
SIPMASK = Kind('bbox_head.conv_cls', 'bbox_head.predict_by_feat', 'bbox_head.conv_reg')
REAL_TIME = replace(SIPMASK, parallel=True)
SOLO = Kind('mask_head.conv_cls', None)
RTMDET = Kind('bbox_head.rtm_cls', None, 'bbox_head.rtm_reg')

DETECTORS: dict[str, tuple[str, Kind]] = {
    BASELINE: ('mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py', TWO_STAGE),
    'PointRend': ('mmdet::point_rend/point-rend_r50-caffe_fpn_ms-1x_coco.py', TWO_STAGE),
    'RefineMask': ('mmrefine::refinemask/refinemask_r50_fpn_1x_coco.py', TWO_STAGE),
    'RefineMask, simple': ('mmrefine::refinemask/refinemask-simple_r50_fpn_1x_coco.py', TWO_STAGE),
    'SharpMask head': ('mmrefine::sharpmask/sharpmask-roi_r50_fpn_1x_coco.py', TWO_STAGE),
    'CondInst': ('mmdet::condinst/condinst_r50_fpn_ms-poly-90k_coco_instance.py', CONDINST),
    'SipMask': ('mmrefine::sipmask/sipmask_r50_fpn_1x_coco.py', SIPMASK),
    'EmbedMask v3': ('mmrefine::embedmask/embedmask_r50_fpn_1x_coco.py', SIPMASK),
    'EmbedMask adet': ('mmrefine::embedmask/embedmask-adet_r50_fpn_ms-1x_coco.py', SIPMASK),
    'YOLACT': ('mmdet::yolact/yolact_r50_1xb8-55e_coco.py', YOLACT),
    'SipMask, real-time': ('mmrefine::sipmask/sipmask_r50-caffe_fpn_ssd-6x_coco.py', REAL_TIME),
    'SOLOv2': ('mmdet::solov2/solov2_r50_fpn_1x_coco.py', SOLO),
    'RTMDet-Ins-l, R50': ('mmdet::rtmdet/rtmdet-ins_l_8xb32-300e_coco.py', RTMDET),
}
OURS_AGAINST = (
    ('RefineMask', 'PointRend'),
    ('SipMask', 'CondInst'),
    ('EmbedMask v3', 'CondInst'),
    ('EmbedMask adet', 'CondInst'),
    ('SipMask, real-time', 'YOLACT'),
)


@dataclass(frozen=True)
class Scene:
    """Input of a measurement."""

    size: tuple[int, int]  # height and width of the network input
    original: tuple[int, int]  # height and width of the image, and of the masks
    count: int  # detections N
    names: Sequence[str]  # detectors; the first is the baseline
    proposals: int = 1000  # boxes that the first of two stages passes on, at most
    rle: bool = False  # go on to RLE, on every side
    depth: int = 50  # of the ResNet, 50 or 18

    def __str__(self) -> str:
        form = ', to RLE' if self.rle else ''
        return f'{self.size[0]}x{self.size[1]}, N={self.count}{form}'


EVERY = tuple(DETECTORS)
SCENES = (
    Scene((480, 640), (480, 640), 20, EVERY),
    Scene((480, 640), (480, 640), 100, EVERY),
    Scene((800, 1344), (480, 806), 20, EVERY),
    Scene((800, 1344), (480, 806), 100, EVERY),
    Scene((544, 544), (480, 640), 100, (BASELINE, 'YOLACT', 'SipMask, real-time')),
    Scene((480, 640), (480, 640), 100, EVERY, rle=True),
    Scene((800, 1344), (480, 806), 100, EVERY, rle=True),
)

QUICK_SCENE = Scene((64, 96), (48, 72), 3, EVERY, proposals=20)


def configure(name: str, scene: Scene) -> ConfigDict:
    """Model of a config, without weights to load, for the detections of a scene."""
    model = get_config(DETECTORS[name][0]).model
    if name.startswith('RTMDet'):
        model.backbone = ConfigDict(type='ResNet', depth=50, out_indices=(1, 2, 3))
        model.neck.update(in_channels=[512, 1024, 2048], norm_cfg=dict(type='BN'))
        model.bbox_head.norm_cfg = ConfigDict(type='BN')
    model.backbone.init_cfg = None
    if scene.depth == 18:
        model.backbone.depth, model.neck.in_channels = 18, [64, 128, 256, 512]
    test_cfg = model.test_cfg.get('rcnn', model.test_cfg)
    test_cfg.update(max_per_img=scene.count)
    if 'rpn' in model.test_cfg:
        model.test_cfg.rpn.max_per_img = scene.proposals
    if 'filter_thr' in test_cfg:
        test_cfg.update(filter_thr=0.0)  # SOLOv2: scores of random weights are too low for it
    if scene.rle and DETECTORS[name][0].startswith('mmrefine'):
        test_cfg.update(mask_format='rle')
    return model


class Detector:
    """A detector that turns the image of a scene into exactly N masks.

    Args:
        name: Key of ``DETECTORS``.
        scene: Sizes and number of detections.
        device: ``cpu`` or ``cuda``.
    """

    def __init__(self, name: str, scene: Scene, device: str) -> None:
        self.scene, self.kind = scene, DETECTORS[name][1]
        torch.manual_seed(0)
        self.model = MODELS.build(configure(name, scene))
        self.model.init_weights()
        self.model.to(device).eval()
        generator = torch.Generator().manual_seed(3)
        self.image = torch.randn(1, 3, *scene.size, generator=generator).to(device)
        self.boxes = draw_boxes(scene.count, scene.size, device)
        with torch.no_grad():
            fit_norms(self.model, self.image)
            if self.kind.distances is not None:
                fill_biases(self.model.get_submodule(self.kind.distances), DISTANCE)
            for name, module in self.model.named_modules():
                if name.endswith('conv_centerness'):
                    fill_biases(module, CENTERED)
            if self.kind.boxes is not None:
                self._give_boxes(self.kind.boxes)
            self._choose_threshold(2 * scene.count if self.kind is SOLO else CANDIDATES)

    def _sample(self) -> DetDataSample:
        height, width = self.scene.size
        original = self.scene.original
        scale = (width / original[1], height / original[0])
        return DetDataSample(
            metainfo=dict(
                img_shape=self.scene.size,
                ori_shape=original,
                pad_shape=self.scene.size,
                batch_input_shape=self.scene.size,
                scale_factor=scale,
            )
        )

    def predict(self) -> InstanceData:
        """Detections of the image."""
        with torch.no_grad():
            return self.model.predict(self.image, [self._sample()])[0].pred_instances

    def __call__(self) -> list[int]:
        """Shape of the masks, which says what work was done.

        Raises:
            RuntimeError: There are not N masks of the original size.
        """
        masks = self.predict().masks
        if self.scene.rle:
            if isinstance(masks, Tensor):
                masks = encode_mask_results(masks.cpu().numpy())
            shape = [len(masks), *masks[0]['size']]
        else:
            shape = list(masks.shape)
        wanted = [self.scene.count, *self.scene.original]
        if shape != wanted:
            raise RuntimeError(f'{type(self.model).__name__} made masks {shape}, wanted {wanted}')
        return shape

    def _give_boxes(self, path: str) -> None:
        """Let the masks be made of the scene's boxes instead of the ones found."""
        owner, _, method = path.rpartition('.')
        module = self.model.get_submodule(owner)
        find: Callable[..., list[InstanceData]] = getattr(module, method)
        two_stage = self.kind is TWO_STAGE

        def found(*args: Any, **kwargs: Any) -> list[InstanceData]:
            (result,) = find(*args, **kwargs)
            if two_stage:
                count = len(self.boxes)
                labels = torch.arange(count, device=self.boxes.device) % 80
                result = InstanceData(scores=self.boxes.new_ones(count), labels=labels)
            # MMDetection's mask heads rescale boxes in place
            result.bboxes = self.boxes[: len(result)].clone()
            return [result]

        setattr(module, method, found)

    def _choose_threshold(self, candidates: int) -> None:
        """Set the score threshold that this many pairs pass."""
        self._set_threshold(0.0 if self.kind.parallel else 1.0)
        if self.kind.parallel:
            return
        logits: list[Tensor] = []
        layers = convolutions(self.model.get_submodule(self.kind.scores))
        hooks = [
            layer.register_forward_hook(lambda _, __, out: logits.append(out)) for layer in layers
        ]
        self.predict()
        for hook in hooks:
            hook.remove()
        if self.kind.softmax:
            scores = torch.cat(logits).softmax(1)[:, :-1].flatten()
        else:
            scores = torch.cat([level.flatten() for level in logits]).sigmoid()
        chosen = scores.topk(min(candidates + 1, len(scores))).values[-1]
        self._set_threshold(float(chosen))

    def _set_threshold(self, value: float) -> None:
        for module in self.model.modules():
            cfg = getattr(module, 'test_cfg', None) or {}
            if 'score_thr' in cfg:
                cfg.update(score_thr=value)


def convolutions(module: nn.Module) -> list[nn.Module]:
    """Layers with weights in a module, itself included."""
    return [m for m in module.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]


def fill_biases(module: nn.Module, value: float) -> None:
    """Set the biases of all its layers."""
    for layer in convolutions(module):
        layer.bias.fill_(value)


def fit_norms(model: nn.Module, image: Tensor) -> None:
    """Give batch norms the statistics of an image.

    With those of a fresh model, activations grow from block to block until scores saturate.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    model.extract_feat(image)
    for norm, momentum in zip(norms, momenta):
        norm.eval()
        norm.momentum = momentum


def _in_place_product(_: Shape, a: Shape, b: Shape, *__: Any, **___: Any) -> int:
    """Operations of ``addmm_``: [m, k] times [k, n]."""
    return 2 * a[0] * a[1] * b[1]


def _deform_conv(_: Shape, __: Shape, weight: Shape, out_shape: Shape, **___: Any) -> int:
    """Operations of SipMask's aligned convolution, an operator of its own."""
    return 2 * math.prod(out_shape) * math.prod(weight[1:])


def count_flops(function: Callable[[], Any]) -> int:
    """Floating-point operations of convolutions and matrix products, two per multiply-add.

    Deformable convolutions count with their matrix product. Not counted: pooling of RoIs,
    interpolation, normalisation, activations, suppression, pasting.
    """
    formulas = {
        torch.ops.aten.addmm_: _in_place_product,
        torch.ops.mmrefine.deform_conv3x3: _deform_conv,
    }
    with FlopCounterMode(display=False, custom_mapping=formulas) as counter:
        function()
    return counter.get_total_flops()


def measure(scene: Scene, device: str, repeats: int) -> list[Row]:
    """All detectors of a scene, called in turn, beside the baseline."""
    detectors = {name: Detector(name, scene, device) for name in scene.names}
    memory, flops = {}, {}
    for name, detector in detectors.items():  # warms up, too
        memory[name] = peak_memory(lambda: flops.update({name: count_flops(detector)}), device)
    times = dict(zip(detectors, interleave(list(detectors.values()), repeats, device)))
    best = {name: min(seconds) for name, seconds in times.items()}
    median = {name: statistics.median(seconds) for name, seconds in times.items()}

    def row(name: str, peer: str, case: str, **details: Any) -> Row:
        details.update(
            latency_ratio=best[name] / best[peer],
            median_time_ratio=median[peer] / median[name],
            memory_ours_mib=memory[name] / 2**20,
            memory_peer_mib=memory[peer] / 2**20,
        )
        ratios = best[peer] / best[name], memory[peer] / max(memory[name], 1)
        return Row('B7', f'{scene}: {case}', *ratios, 0.0, True, details, 'work')

    rows = []
    for name, detector in detectors.items():
        figures = dict(
            scene=str(scene),
            model=name,
            parameters=sum(p.numel() for p in detector.model.parameters()),
            flops=flops[name],
        )
        rows.append(row(name, scene.names[0], name, **figures))
    for name, peer in OURS_AGAINST:
        if name in best and peer in best:
            rows.append(row(name, peer, f'{name} against {peer}'))
    return rows


def measure_scene(scene: Scene, device: str) -> list[Row]:
    """Rows of one scene."""
    return measure(scene, device, repeats=3)


def measure_first(device: str, quick: bool = False) -> list[Row]:
    """Rows of the first scene, or of a small one with the same detectors."""
    return measure(QUICK_SCENE, device, repeats=1) if quick else measure_scene(SCENES[0], device)


def _part(scene: Scene) -> str:
    return f'{scene.size[0]}x{scene.size[1]}-{scene.count}{"-rle" * scene.rle}'


BENCHMARKS = {
    'B7': {
        _part(SCENES[0]): measure_first,
        **{_part(scene): partial(measure_scene, scene) for scene in SCENES[1:]},
    }
}
