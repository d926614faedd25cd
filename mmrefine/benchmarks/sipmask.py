"""SipMask's box-sliced masks against the dense form, and the whole detector against stock ones.

The dense peer is the original's formulation with its CUDA operator written in plain torch: k * k
maps of the whole image for every object, their sigmoid, then the crop.
"""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.hub import get_config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import Tensor

from mmrefine.sipmask.assembly import region_crops, region_logits, region_values
from mmrefine.sipmask.cells import split_boxes
from mmrefine.sipmask.crop_split import crop_split, crop_split_gt
from mmrefine.sipmask.losses import weighted_mask_loss

from .harness import Row, compare

SIZE = (400, 672)
BASES = 32
THRESHOLD = 0.4
# Mean share of a COCO object's box in its photo.
MEAN_SHARE = 0.06


def draw_boxes(count: int, size: tuple[int, int], device: str) -> Tensor:
    """Boxes Tensor[count, 4] inside a map, log-normal areas with the mean of COCO's objects."""
    generator = torch.Generator().manual_seed(1)
    share = (torch.randn(count, generator=generator) * 1.5).exp()
    share = (share / share.mean() * MEAN_SHARE).clamp(max=0.9)
    aspect = (torch.randn(count, generator=generator) * 0.4).exp()
    height, width = size
    sides = torch.stack(
        (
            ((share * aspect).sqrt().clamp(max=1) * width),
            (share / aspect).sqrt().clamp(max=1) * height,
        ),
        dim=1,
    )
    room = torch.tensor([width, height]) - sides
    corner = torch.rand(count, 2, generator=generator) * room
    return torch.cat((corner, corner + sides), dim=1).to(device)


def scene(count: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Basis Tensor[S, H, W], coefficients Tensor[N, 4, S], half-resolution boxes Tensor[N, 4]."""
    generator = torch.Generator().manual_seed(0)
    basis = torch.rand(BASES, *SIZE, generator=generator).to(device)
    coeffs = (torch.randn(count, 4, BASES, generator=generator) * 0.3).to(device)
    return basis, coeffs, draw_boxes(count, SIZE, device)


def dense_masks(basis: Tensor, coeffs: Tensor, boxes: Tensor) -> Tensor:
    """Probabilities Tensor[H, W, N], 0 outside the boxes, by the dense form."""
    cells = [
        (basis.permute(1, 2, 0) @ coeffs[:, cell].t()).sigmoid() for cell in range(coeffs.shape[1])
    ]
    return crop_split(torch.stack(cells), boxes)


def assembly_rows(device: str) -> list[Row]:
    """Binary masks of 100 detections."""
    basis, coeffs, boxes = scene(100, device)
    cuts = split_boxes(boxes, SIZE, 2).slices()

    def ours() -> list[Tensor]:
        regions = split_boxes(boxes, SIZE, 2)
        chosen = region_logits(basis, coeffs, regions).sigmoid() > THRESHOLD
        return [crop.float() for crop in region_crops(chosen, regions)]

    def peer() -> list[Tensor]:
        masks = dense_masks(basis, coeffs, boxes) > THRESHOLD
        return [masks[rows, columns, n].float() for n, (rows, columns) in enumerate(cuts)]

    return [compare('B3', 'assembly, N = 100, 400 x 672', ours, peer, device=device)]


def training_rows(device: str) -> list[Row]:
    """Mask loss and gradients of 300 positives; gradients relative to their largest value."""
    basis, coeffs, boxes = scene(300, device)
    basis.requires_grad_()
    coeffs.requires_grad_()
    generator = torch.Generator().manual_seed(2)
    objects = (torch.rand(10, *SIZE, generator=generator) > 0.5).to(device)
    owners = torch.randint(0, 10, (300,), generator=generator).to(device)
    weights = torch.rand(300, generator=generator).to(device)
    samples = InstanceData(bboxes=boxes * 2, weights=weights)

    def step(loss: Tensor) -> list[Tensor]:
        grads = torch.autograd.grad(loss, (basis, coeffs))
        return [loss.detach(), *(grad / grad.abs().max() for grad in grads)]

    def ours() -> list[Tensor]:
        regions = split_boxes(boxes, SIZE, 2)
        inside = region_values(objects, owners, regions)
        logits = region_logits(basis, coeffs, regions)
        return step(weighted_mask_loss(logits, inside, regions, samples))

    def peer() -> list[Tensor]:
        predicted = dense_masks(basis, coeffs, boxes)
        target = crop_split_gt(objects[owners].permute(1, 2, 0).float(), boxes)
        each = F.binary_cross_entropy(predicted, target, reduction='none').sum(dim=(0, 1))
        sides = boxes[:, 2:] - boxes[:, :2]
        return step((weights * each / sides[:, 0] / sides[:, 1] / len(boxes)).sum())

    case = 'mask loss and gradients, 300 positives, 400 x 672'
    return [compare('B3', case, ours, peer, device=device, tolerance=1e-4, repeats=2)]


# ------------------------------------------------------------------------------- whole detectors


def stock(name: str) -> ConfigDict:
    """Model of a stock mmdet config, without weights to load."""
    model = get_config(f'mmdet::{name}.py').model
    model.backbone.init_cfg = None
    return model


def sipmask(real_time: bool, backbone: ConfigDict, preprocessor: ConfigDict) -> dict:
    """Published accurate or real-time SipMask on a given backbone."""
    neck = {
        'type': 'FPN', 'in_channels': [256, 512, 1024, 2048], 'out_channels': 256, 'start_level': 1,
        'add_extra_convs': 'on_output', 'num_outs': 5, 'relu_before_extra_convs': True,
    }  # fmt: skip
    nms = {'type': 'fast' if real_time else 'greedy', 'iou_threshold': 0.5}
    return {
        'type': 'SipMask',
        'data_preprocessor': preprocessor,
        'backbone': backbone,
        'neck': neck,
        'bbox_head': {
            'type': 'SipMaskBBoxHead', 'num_classes': 80, 'stacked_convs': 2 if real_time else 4,
        },
        'mask_head': {'type': 'SipMaskHead'},
        'test_cfg': {
            # Without a score threshold the peers, too, rank (point, class) pairs per level.
            'candidates': 'pairs',
            'nms_pre': 1000, 'score_thr': 0.0, 'nms': nms, 'max_per_img': 100, 'mask_thr': 0.4,
        },
    }  # fmt: skip


def build(config: dict, device: str) -> torch.nn.Module:
    """A detector with random weights whose scores spread and whose boxes span some cells."""
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = MODELS.build(config)
    model.init_weights()
    head = model.bbox_head
    with torch.no_grad():
        # A freshly initialised predictor gives every point nearly the same score.
        head.conv_cls.weight.normal_(std=0.1)
        if hasattr(head, 'conv_centerness'):
            head.conv_reg.bias.fill_(4.0)
    return model.to(device).eval()


def latency_row(case: str, ours: dict, peer: dict, size: tuple[int, int], device: str) -> Row:
    """Time from a normalised image to boolean masks of 100 detections, against a stock detector."""
    models = build(ours, device), build(peer, device)
    image = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(3)).to(device)
    meta = {
        'img_shape': size, 'ori_shape': (size[0] * 3 // 5, size[1] * 3 // 5), 'pad_shape': size,
        'batch_input_shape': size, 'scale_factor': (5 / 3, 5 / 3),
    }  # fmt: skip

    def run(model: torch.nn.Module) -> Callable[[], int]:
        def predict() -> int:
            with torch.no_grad():
                sample = DetDataSample(metainfo=meta)
                found = model.predict(image, [sample])[0].pred_instances
            if found.masks.shape[1:] != torch.Size(meta['ori_shape']):
                raise ValueError(f'masks of shape {tuple(found.masks.shape)}')
            return len(found)

        return predict

    functions = [run(model) for model in models]
    counts = [function() for function in functions]
    # The outputs are of different models: comparable is only that both delivered as many masks.
    return compare(
        'detector', case, *functions, device=device, memory=False, details={'detections': counts}
    )


def detector_rows(device: str) -> Iterator[Row]:
    """Latency against YOLACT at 544 pixels and CondInst at 800, both R50 with 100 detections."""
    yolact = stock('yolact/yolact_r50_1xb8-55e_coco')
    condinst = stock('condinst/condinst_r50_fpn_ms-poly-90k_coco_instance')
    yolact.test_cfg.update(score_thr=0.0, max_per_img=100)
    condinst.test_cfg.update(score_thr=0.0, max_per_img=100)
    real_time = sipmask(True, yolact.backbone, yolact.data_preprocessor)
    case = 'real-time SipMask against YOLACT, R50, 544 x 544, N = 100'
    yield latency_row(case, real_time, yolact, (544, 544), device)
    accurate = sipmask(False, condinst.backbone, condinst.data_preprocessor)
    case = 'SipMask against CondInst, R50, 800 x 1344, N = 100'
    yield latency_row(case, accurate, condinst, (800, 1344), device)


def b3(device: str) -> Iterator[Row]:
    """Mask assembly, then mask loss."""
    yield from assembly_rows(device)
    yield from training_rows(device)


BENCHMARKS = {'B3': b3, 'detector': detector_rows}
