"""RefineMask on boxes of stock RoI heads: those boxes stay as they are; no objects are legal."""

from pathlib import Path

import pytest
import torch
from locations import ROOT
from mixed.batch import images, samples
from mixed.shrink import shrink
from mmdet.registry import MODELS
from mmengine.config import Config
from torch import nn

BOXES = ['cascade', 'htc', 'queryinst']


def config_file(boxes: str) -> Path:
    return ROOT / 'configs' / 'mixed' / f'refinemask-{boxes}_r50_fpn_1x_coco.py'


def small(path: Path) -> nn.Module:
    torch.manual_seed(0)
    model = MODELS.build(shrink(Config.fromfile(path).model))
    model.init_weights()
    return model


@pytest.mark.parametrize('boxes', BOXES)
def test_boxes_are_those_of_the_stock_detector(boxes: str, tmp_path: Path) -> None:
    own = config_file(boxes)
    (base,) = [line for line in own.read_text().splitlines() if line.startswith('_base_')]
    (tmp_path / 'stock.py').write_text(base)
    ours, stock = small(own).eval(), small(tmp_path / 'stock.py').eval()
    missing, _ = stock.load_state_dict(ours.state_dict(), strict=False)
    assert all('mask_head' in name for name in missing)
    stock.roi_head.mask_head = None  # stock pasting stops at boxes outside of the image
    with torch.no_grad():
        found, expected = (m.predict(images(), samples(), rescale=True) for m in (ours, stock))
    for a, b in zip(found, expected):
        a, b = a.pred_instances, b.pred_instances
        torch.testing.assert_close(a.bboxes, b.bboxes)
        torch.testing.assert_close(a.scores, b.scores)
        assert a.labels.tolist() == b.labels.tolist()
        assert set(a.keys()) == {'bboxes', 'scores', 'labels', 'masks'}


@pytest.mark.parametrize('boxes', [*BOXES, 'dynamic'])
def test_images_without_objects_train(boxes: str) -> None:
    model = small(config_file(boxes)).train()
    data = samples()
    for sample in data:
        sample.gt_instances = sample.gt_instances[:0]
    losses = model.loss(images(), data)
    (instance,) = [value for name, value in losses.items() if 'loss_instance' in name]
    assert instance == 0
    model.parse_losses(losses)[0].backward()
    weights = dict(model.roi_head.mask_head.named_parameters())
    assert [name for name, weight in weights.items() if weight.grad is None] == []


@pytest.mark.parametrize('boxes', ['cascade', 'htc', 'dynamic'])
def test_no_detections_give_no_masks(boxes: str) -> None:
    model = small(config_file(boxes)).eval()
    model.roi_head.test_cfg.score_thr = 1.0
    with torch.no_grad():
        results = model.predict(images(), samples(), rescale=True)
    assert [tuple(r.pred_instances.masks.shape) for r in results] == [(0, 128, 128), (0, 64, 64)]


@pytest.mark.parametrize('boxes', [*BOXES, 'dynamic'])
def test_raw_outputs_hold_the_finest_masks(boxes: str) -> None:
    """``mode='tensor'``, which tools for counting operations use."""
    model = small(config_file(boxes)).eval()
    with torch.no_grad():
        outputs = model(images(), samples(), mode='tensor')
    assert len(outputs) > 0


def test_only_the_last_stage_of_a_cascade_trains_masks() -> None:
    losses = small(config_file('queryinst')).train().loss(images(), samples())
    masks = [name for name in losses if 'instance' in name or 'semantic' in name]
    assert sorted(masks) == ['s5.loss_instance', 's5.loss_semantic']
