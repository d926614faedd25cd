"""Layers and detection losses that point-based heads share."""

import pytest
import torch
from mmengine.structures import InstanceData

from mmrefine.fcos import FCOSHeadBase, PointOutputs

SMALL = {'in_channels': 32, 'feat_channels': 32, 'num_cls_convs': 1, 'num_reg_convs': 1}


class Head(FCOSHeadBase):
    """The base class with nothing added."""

    def loss_by_feat(self) -> None:
        """Unused."""


def head(**options) -> Head:
    return Head(3, **(SMALL | options))


def objects(*boxes: list[float]) -> InstanceData:
    return InstanceData(bboxes=torch.tensor(boxes).view(-1, 4), labels=torch.arange(len(boxes)) % 3)


def forward(module: Head, images: int) -> tuple[PointOutputs, list[torch.Tensor]]:
    feats = [torch.randn(images, 32, side, side) for side in (16, 8, 4, 2, 1)]
    maps = [
        (module.conv_cls(module.cls_convs(x)), module.predict_ltrb(module.reg_convs(x), level),
         module.conv_centerness(module.reg_convs(x)))
        for level, x in enumerate(feats)
    ]  # fmt: skip
    return module.flatten_outputs(*zip(*maps)), feats


def losses(module: Head, outputs: PointOutputs, feats: list, gts: list) -> dict:
    grid = module.grid(feats)
    return module.detection_loss(outputs, grid, module.assign(grid, gts), gts)


def test_images_without_objects_train_the_classes_only():
    module = head()
    outputs, feats = forward(module, 2)
    found = losses(module, outputs, feats, [objects(), objects()])
    assert found['loss_bbox'] == found['loss_centerness'] == 0
    sum(found.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())
    assert module.conv_cls.weight.grad.abs().sum() > 0


def test_an_image_without_objects_changes_only_the_class_loss():
    module = head()
    outputs, feats = forward(module, 2)
    both = losses(module, outputs, feats, [objects([10.0, 10, 60, 70]), objects()])
    first = PointOutputs(*(field[:1] for field in outputs))
    alone = losses(module, first, [x[:1] for x in feats], [objects([10.0, 10, 60, 70])])
    torch.testing.assert_close(both['loss_bbox'], alone['loss_bbox'])
    torch.testing.assert_close(both['loss_centerness'], alone['loss_centerness'])
    assert both['loss_cls'] > alone['loss_cls']


def test_counting_images_divides_the_class_loss_by_positives_plus_images():
    plain, counting = head(), head(count_images=True)
    counting.load_state_dict(plain.state_dict())
    outputs, feats = forward(plain, 2)
    gts = [objects([10.0, 10, 60, 70]), objects([30.0, 20, 100, 90])]
    targets = plain.assign(plain.grid(feats), gts)
    positives = int((targets.gt_index >= 0).sum())
    ratio = (
        losses(plain, outputs, feats, gts)['loss_cls']
        / (losses(counting, outputs, feats, gts)['loss_cls'])
    )
    torch.testing.assert_close(ratio.item(), (positives + 2) / positives, rtol=1e-5, atol=0)


def test_units_of_the_box_loss_matter_only_with_an_offset():
    gts = [objects([10.0, 10, 60, 70]), objects()]
    for offset, equal in ((0.0, True), (1.0, False)):
        loss = {'type': 'LtrbIoULoss', 'kind': 'iou', 'offset': offset}
        stride = head(loss_bbox=loss)
        pixel = head(loss_bbox=loss, box_loss_in_pixels=True)
        pixel.load_state_dict(stride.state_dict())
        with torch.no_grad():
            stride.conv_reg.bias.fill_(2.0)
        outputs, feats = forward(stride, 2)
        pair = [float(losses(m, outputs, feats, gts)['loss_bbox']) for m in (stride, pixel)]
        assert (abs(pair[0] - pair[1]) < 1e-5) == equal


def test_predicted_distances_are_clamped_only_when_asked():
    for relu in (True, False):
        module = head(relu_boxes=relu)
        ltrb = module.predict_ltrb(torch.randn(1, 32, 5, 5), 0)
        assert bool((ltrb < 0).any()) != relu


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'strides': (8, 16)}, '2 strides but 5 regress_ranges'),
        ({'num_classes': 0}, 'num_classes must be at least 1, got 0'),
        ({'loss_bbox': {'type': 'mmdet.GIoULoss'}}, 'loss_bbox=GIoULoss does not take distances'),
        ({'loss_bbox': {'type': 'mmdet.L1Loss'}}, 'loss_bbox=L1Loss does not take distances'),
    ],
)
def test_settings_that_cannot_work_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Head(**({'num_classes': 3} | SMALL | options))


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_losses_see_single_precision_under_autocast(dtype):
    module = head()
    with torch.autocast('cpu', dtype):
        outputs, _ = forward(module, 2)
    assert all(field.dtype == torch.float32 for field in outputs)
