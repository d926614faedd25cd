"""RoI pooling against mmcv's operators, its gradients, and what a compiler sees of it."""

import torch
from mmcv.ops import SimpleRoIAlign
from mmcv.ops import roi_align as mmcv_roi_align

from mmrefine.layers import point_roi_align, roi_align

# inside, partly outside, far outside, without area, one pixel
ROIS = torch.tensor(
    [
        [0, 4.0, 4.0, 40.0, 30.0],
        [1, -20.0, 10.0, 20.0, 90.0],
        [0, 200.0, 200.0, 260.0, 240.0],
        [1, 12.0, 12.0, 12.0, 12.0],
        [0, 7.0, 9.0, 8.0, 10.0],
    ]
)


def test_equals_mmcv() -> None:
    feats = torch.randn(2, 3, 16, 24, requires_grad=True)
    ours = roi_align(feats, ROIS, 7, 0.25)
    theirs = mmcv_roi_align(feats, ROIS, 7, 0.25, 0, 'avg', True)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    weight = torch.randn_like(ours)
    torch.testing.assert_close(
        *(torch.autograd.grad((out * weight).sum(), feats)[0] for out in (ours, theirs))
    )


def test_points_equal_grid_sampling() -> None:
    feats = torch.randn(2, 3, 16, 24)
    order = ROIS[:, 0].argsort(stable=True)  # mmcv groups RoIs by image
    theirs = SimpleRoIAlign(14, 0.25)(feats, ROIS[order])
    torch.testing.assert_close(
        point_roi_align(feats, ROIS, 14, 4)[order], theirs, rtol=0, atol=2e-5
    )


def test_no_rois_keep_the_gradient_path() -> None:
    feats = torch.randn(2, 3, 16, 24, requires_grad=True)
    for pooled in (roi_align(feats, ROIS[:0], 7, 0.25), point_roi_align(feats, ROIS[:0], 7, 4)):
        assert pooled.shape == (0, 3, 7, 7)
        assert torch.autograd.grad(pooled.sum(), feats)[0].abs().sum() == 0


def test_half_precision_features_are_pooled_in_fp32() -> None:
    feats = torch.randn(2, 3, 16, 24)
    pooled = roi_align(feats.bfloat16(), ROIS, 7, 0.25)
    torch.testing.assert_close(pooled, roi_align(feats.bfloat16().float(), ROIS, 7, 0.25))


def test_operator_rules_are_complete() -> None:
    feats = torch.randn(2, 3, 8, 8, dtype=torch.float32, requires_grad=True)
    torch.library.opcheck(
        torch.ops.mmrefine.roi_align.default,
        (feats, ROIS, 7, 0.25, 0),
        test_utils=['test_schema', 'test_autograd_registration', 'test_faketensor'],
    )
