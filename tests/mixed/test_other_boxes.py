"""RefineMask on boxes of stock RoI heads: those boxes stay as they are; no objects are legal."""

import copy
from pathlib import Path

import pytest
import torch
from locations import ROOT
from mixed.batch import images, samples
from mixed.shrink import shrink
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import nn

from mmrefine.masks import to_dense

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


PYRAMID = "mask_roi_extractor=dict(type='PyramidRoIExtractor')"
LEVELS = """mask_roi_extractor=dict(
    type='SingleRoIExtractor', out_channels=256, featmap_strides=[4, 8, 16, 32],
    roi_layer=dict(type='RoIAlign', output_size=14, sampling_ratio=0))"""
FASTER, SPARSE = (
    'faster_rcnn/faster-rcnn_r50_fpn_1x_coco',
    'sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco',
)


@pytest.mark.parametrize(
    'base, kind, head, extractor',
    [
        (FASTER, 'RefineRoIHead', 'RefineMaskHead', LEVELS),
        (SPARSE, 'SparseRefineRoIHead', 'RefineMaskHead', LEVELS),
        (FASTER, 'SharpMaskRoIHead', 'SharpMaskHead', PYRAMID),
    ],
)
@pytest.mark.parametrize('mask_format', ['dense', 'rle'])
def test_detectors_of_boxes_get_masks_cut_at_one_half(
    base: str, kind: str, head: str, extractor: str, mask_format: str, tmp_path: Path
) -> None:
    (tmp_path / 'masks.py').write_text(
        f"_base_ = 'mmdet::{base}.py'\n"
        f"model = dict(roi_head=dict(type='{kind}', mask_head=dict(type='{head}'), {extractor}))"
    )
    model = small(tmp_path / 'masks.py').eval()
    config = model.roi_head.test_cfg
    config.mask_format = mask_format
    assert 'mask_thr_binary' not in config
    truth = [sample.gt_instances for sample in samples()]
    boxes = [InstanceData(bboxes=one.bboxes, labels=one.labels) for one in truth]
    metas = [sample.metainfo for sample in samples()]
    with torch.no_grad():
        x = model.extract_feat(images())
        found = model.roi_head.predict_mask(x, metas, copy.deepcopy(boxes))
        config.mask_thr_binary = 0.5
        expected = model.roi_head.predict_mask(x, metas, boxes)
    for a, b in zip(found, expected):
        assert torch.equal(to_dense(a.masks), to_dense(b.masks))
