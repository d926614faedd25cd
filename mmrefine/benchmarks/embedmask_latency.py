"""Latency of the whole detector beside stock detectors of the same backbone and input."""

from typing import Any

import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from .harness import Row, compare

SIZES = ((480, 640), (800, 1344))
PEERS = dict(
    condinst='mmdet::condinst/condinst_r50_fpn_ms-poly-90k_coco_instance.py',
    mask_rcnn='mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
)
FCOS = dict(
    type='EmbedMaskBBoxHead',
    num_classes=80,
    proposal=dict(learn_position_scale=False, reduce_channels=128),
    sample_in_mask=False,
    center='mask',
)
PIXELS = dict(
    finest=dict(type='EmbedMaskHead'),
    merged=dict(type='EmbedMaskHead', feat_channels=128, branch='merged', enlarge='aligned'),
)


def build(name: str, device: str) -> nn.Module:
    """A detector with random weights that keeps 100 detections of any image."""
    init_default_scope('mmdet')
    torch.manual_seed(0)
    config = get_config(PEERS.get(name, PEERS['condinst']))
    model = config.model
    model.backbone.init_cfg = None
    if name in PIXELS:
        model.type = 'EmbedMask'
        proposal = FCOS['proposal'] if name == 'merged' else {}
        model.bbox_head = Config(dict(head={**FCOS, 'proposal': proposal})).head
        model.mask_head = Config(dict(head=PIXELS[name])).head
    test_cfg = model.test_cfg.rcnn if 'rcnn' in model.test_cfg else model.test_cfg
    test_cfg.update(score_thr=0.0, max_per_img=100)
    detector = MODELS.build(model).to(device).eval()
    if hasattr(detector, 'bbox_head'):
        # random weights predict empty boxes: make them about eight strides wide
        nn.init.constant_(detector.bbox_head.conv_reg.bias, 4.0)
    return detector


class Latency:
    """One prediction, pixels to dense masks."""

    def __init__(self, detector: nn.Module, image: Tensor) -> None:
        size = tuple(image.shape[-2:])
        meta: dict[str, Any] = dict(
            img_shape=size,
            ori_shape=size,
            pad_shape=size,
            batch_input_shape=size,
            scale_factor=(1.0, 1.0),
        )
        self.detector, self.image, self.meta = detector, image, meta

    @torch.no_grad()
    def __call__(self) -> list[int]:
        """Shape of the masks: the work that both sides of a comparison must have done."""
        (result,) = self.detector.predict(self.image, [DetDataSample(metainfo=dict(self.meta))])
        return list(result.pred_instances.masks.shape)


def benchmark_latency(device: str = 'cpu', repeats: int = 3) -> list[Row]:
    """EmbedMask v3 and adet against CondInst and Mask R-CNN, all ResNet-50, 100 masks each.

    The models differ, so ``equal`` states equal work, as many masks of the same size, not equal
    masks.
    """
    rows = []
    detectors = {name: build(name, device) for name in (*PIXELS, *PEERS)}
    for size in SIZES:
        image = torch.randn(1, 3, *size, device=device) * 50
        runs = {name: Latency(detector, image) for name, detector in detectors.items()}
        for mine, label in (('finest', 'v3'), ('merged', 'adet')):
            for peer in PEERS:
                case = f'detector R50 {size[0]}x{size[1]}: EmbedMask {label} against {peer}'
                rows.append(
                    compare(
                        'B7',
                        case,
                        runs[mine],
                        runs[peer],
                        device=device,
                        repeats=repeats,
                        memory=False,
                    )
                )
    return rows


BENCHMARKS = {'B7': benchmark_latency}
