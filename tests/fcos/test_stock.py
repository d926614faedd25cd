"""Losses and gradients beside MMDetection's FCOS head on the same weights."""

import pytest
import torch
from mmdet.models.dense_heads import FCOSHead
from mmengine.structures import InstanceData

from mmrefine.fcos import FCOSHeadBase, PointOutputs

LEVELS = dict(strides=(8, 16, 32), regress_ranges=((-1, 32), (32, 64), (64, 1e8)))
SIDES = (13, 7, 4)


class Head(FCOSHeadBase):
    """The base class with nothing added."""

    def loss_by_feat(self) -> None:
        """Unused."""


def objects(boxes: list[list[float]]) -> InstanceData:
    return InstanceData(bboxes=torch.tensor(boxes).view(-1, 4), labels=torch.arange(len(boxes)) % 3)


CASES = {
    'objects': [[[10.0, 10, 60, 70], [12.0, 11, 33, 34], [40.0, 5, 99, 100]], [[0.0, 0, 30, 8]]],
    'empty image': [[[10.0, 10, 60, 70]], []],
    'no objects': [[], []],
    'nested': [[[0.0, 0, 100, 100], [30.0, 30, 70, 70], [44.0, 44, 56, 56]], [[48.0, 48, 49, 49]]],
}


@pytest.mark.parametrize('case', CASES)
@pytest.mark.parametrize('radius', [1.5, None])
def test_losses_and_gradients_are_those_of_the_stock_head(case: str, radius: float | None) -> None:
    width = dict(in_channels=32, feat_channels=32)
    ours = Head(3, num_cls_convs=2, num_reg_convs=2, center_radius=radius, **width, **LEVELS)
    stock = FCOSHead(
        3, stacked_convs=2, **width, **LEVELS,
        center_sampling=radius is not None, center_sample_radius=radius or 1.5,
        norm_on_bbox=True, centerness_on_reg=True, conv_bias='auto',
        loss_bbox=dict(type='GIoULoss', loss_weight=1.0),
    )  # fmt: skip
    stock.load_state_dict(ours.state_dict())
    with torch.no_grad():
        for head in (ours, stock):
            head.conv_reg.bias.fill_(2.0)  # two strides to every side
    feats = [torch.randn(2, 32, side, side) for side in SIDES]
    gts = [objects(boxes) for boxes in CASES[case]]

    grid = ours.grid(feats)
    maps = [
        (
            ours.conv_cls(ours.cls_convs(x)),
            ours.predict_ltrb(ours.reg_convs(x), level),
            ours.conv_centerness(ours.reg_convs(x)),
        )
        for level, x in enumerate(feats)
    ]
    outputs: PointOutputs = ours.flatten_outputs(*zip(*maps))
    found = ours.detection_loss(outputs, grid, ours.assign(grid, gts), gts)
    expected = stock.loss_by_feat(*stock(feats), gts, [dict(img_shape=(104, 104))] * 2)

    assert set(found) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)
    sum(found.values()).backward()
    sum(expected.values()).backward()
    for (name, mine), theirs in zip(ours.named_parameters(), stock.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-6, msg=name)
    if any(CASES[case]):
        assert ours.conv_reg.weight.grad.abs().sum() > 0
