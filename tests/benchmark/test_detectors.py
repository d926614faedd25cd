"""Detectors are compared on the same boxes, and their operations are counted."""

from dataclasses import replace

import pytest
import torch
from benchmark.detectors import (
    DETECTORS,
    Detector,
    Scene,
    configure,
    count_flops,
    fit_norms,
)
from mmcv.ops import DeformConv2d
from mmdet.models.backbones import ResNet
from torch import nn

from mmrefine.sipmask.align import deform_conv

SMALL = Scene((64, 96), (48, 72), 4, ('SipMask',))


def test_flops_are_two_per_multiply_add() -> None:
    conv = nn.Conv2d(8, 16, 3, padding=1, bias=False)
    assert count_flops(lambda: conv(torch.zeros(1, 8, 10, 12))) == 2 * 8 * 16 * 9 * 120
    linear = nn.Linear(8, 16, bias=False)
    assert count_flops(lambda: linear(torch.zeros(5, 8))) == 2 * 5 * 8 * 16


@torch.no_grad()
def test_flops_of_deformable_convolutions_count() -> None:
    conv = DeformConv2d(8, 16, 3, padding=1, deform_groups=2)
    inputs = torch.zeros(1, 8, 10, 12), torch.zeros(1, 36, 10, 12)
    assert count_flops(lambda: conv(*inputs)) == 2 * 8 * 16 * 9 * 120
    inputs = torch.zeros(1, 8, 10, 12), torch.zeros(1, 72, 10, 12), torch.zeros(8, 8, 3, 3)
    for function in (deform_conv, torch.ops.mmrefine.deform_conv3x3):  # on a CPU, on a GPU
        assert count_flops(lambda f=function: f(*inputs)) == 2 * 8 * 8 * 9 * 120


def test_norms_are_fitted_to_the_image() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.extract_feat = ResNet(18, base_channels=4, norm_eval=True)

    model = Model().eval()
    image = 5 + 3 * torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        fit_norms(model, image)
        backbone = model.extract_feat
        plain = backbone.norm1(backbone.conv1(image))
    assert plain.mean().abs() < 1e-4
    assert abs(float(plain.std()) - 1) < 1e-2
    assert backbone.norm1.momentum == 0.1 and not backbone.norm1.training


@pytest.mark.parametrize('name', DETECTORS)
def test_every_detector_has_the_same_backbone(name: str) -> None:
    backbone = configure(name, SMALL).backbone
    assert (backbone.type, backbone.depth, backbone.init_cfg) == ('ResNet', 50, None)


@pytest.mark.parametrize('name', ['SipMask', 'EmbedMask adet'])
def test_masks_are_made_of_the_given_boxes(name: str) -> None:
    detector = Detector(name, SMALL, 'cpu')
    assert detector() == [4, 48, 72]
    boxes = detector.predict().bboxes
    torch.testing.assert_close(boxes, detector.boxes * 0.75, atol=1e-3, rtol=0)


def test_boxes_are_the_same_in_every_call() -> None:
    detector = Detector('Mask R-CNN', replace(SMALL, proposals=20), 'cpu')
    before = detector.boxes.clone()
    detector()
    assert torch.equal(detector.boxes, before)


def test_the_threshold_lets_the_same_number_pass() -> None:
    detector = Detector('SipMask', SMALL, 'cpu')
    seen = []
    head = detector.model.bbox_head
    head.conv_cls.register_forward_hook(lambda _, __, out: seen.append(out.sigmoid()))
    detector()
    threshold = detector.model.bbox_head.test_cfg.score_thr
    assert sum(int((scores > threshold).sum()) for scores in seen) == 1000


def test_missing_detections_are_an_error() -> None:
    detector = Detector('SipMask', SMALL, 'cpu')
    detector.model.bbox_head.test_cfg.score_thr = 1.0
    with pytest.raises(RuntimeError, match=r'made masks \[0, 48, 72\], wanted \[4, 48, 72\]'):
        detector()
