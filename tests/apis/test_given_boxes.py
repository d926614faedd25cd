"""Masks for given boxes: those of the model itself, and what is refused."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tiny_sipmask
import torch
from mmdet.apis import inference_detector
from mmdet.models.roi_heads import SparseRoIHead
from mmengine.config import Config
from pycocotools import mask as coco_mask
from tiny_refinemask import tiny_detector
from tiny_stock_models import tiny_stock_model

import mmrefine
from mmrefine import predict_masks
from mmrefine.apis.given_boxes import BoxSegmenter, network_boxes
from mmrefine.layers import ClassLogits
from mmrefine.masks import encode, to_dense

STOCK = {
    'Mask R-CNN': 'mask_rcnn/mask-rcnn_r50_fpn_1x_coco',
    'Cascade': 'cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco',
    'PointRend': 'point_rend/point-rend_r50-caffe_fpn_ms-1x_coco',
    'HTC': 'htc/htc_r50_fpn_1x_coco',
    'SCNet': 'scnet/scnet_r50_fpn_1x_coco',
    'Mask Scoring R-CNN': 'ms_rcnn/ms-rcnn_r50-caffe_fpn_1x_coco',
}
OURS = ('RefineMaskHead', 'SimpleRefineMaskHead')
SIZE = (96, 128)


def picture(seed: int = 0) -> np.ndarray:
    """A blotchy image, uint8 array[h, w, 3]."""
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_CUBIC)


def ready(model: torch.nn.Module, side: int = SIZE[1]) -> torch.nn.Module:
    """The model as ``init_detector`` leaves it; images are resized to a width of ``side``."""
    steps = [
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(side, side), keep_ratio=True),
        dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
        dict(
            type='PackDetInputs',
            meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
        ),
    ]
    model.cfg = Config(dict(test_dataloader=dict(dataset=dict(pipeline=steps))))
    return model.eval()


def model_of(name: str, side: int = SIZE[1]) -> torch.nn.Module:
    model = tiny_detector(name) if name in OURS else tiny_stock_model(STOCK[name])
    for layer in model.modules():
        if isinstance(layer, ClassLogits):  # fresh ones predict nothing, or all, anywhere
            torch.nn.init.normal_(layer.weight)
            layer.weight.data -= layer.weight.data.mean(1, keepdim=True)
    return ready(model, side)


def own_masks(model: torch.nn.Module, image: Any) -> tuple[Any, list[dict]]:
    """What the model finds, and its masks as RLEs."""
    found = inference_detector(model, image).pred_instances
    assert len(found) > 3
    return found, encode(found.masks)


def solid(found: Any) -> torch.Tensor:
    """Detections with an area."""
    return (found.bboxes[:, 2:] > found.bboxes[:, :2]).all(1).nonzero().flatten()


@pytest.mark.parametrize('name', [*OURS, *STOCK])
def test_boxes_of_the_model_get_its_own_masks(name: str) -> None:
    model = model_of(name)
    found, own = own_masks(model, picture())
    keep = solid(found)
    masks = predict_masks(model, picture(), found.bboxes[keep], found.labels[keep])
    assert masks == [own[i] for i in keep.tolist()]
    assert len({mask['counts'] for mask in masks}) > 2


@pytest.mark.parametrize('name', ['RefineMaskHead', 'Mask R-CNN'])
@pytest.mark.parametrize('side', [200, 111])
def test_resizing_costs_no_more_than_rounding(name: str, side: int) -> None:
    model = model_of(name, side)
    found, own = own_masks(model, picture())
    keep = solid(found)
    masks = predict_masks(model, picture(), found.bboxes[keep], found.labels[keep])
    pairs = [(a, own[i]) for a, i in zip(masks, keep.tolist())]
    flips = sum(int((to_dense([a]) ^ to_dense([b])).sum()) for a, b in pairs)
    assert flips <= 2
    assert sum(a == b for a, b in pairs) >= len(pairs) - 2


@pytest.mark.parametrize('scale', [(1.6662500000000001, 1.6641666), (0.4, 0.3), (1.0, 2.0)])
def test_boxes_return_from_the_network_input_where_floats_allow(scale: tuple) -> None:
    boxes = torch.rand(5000, 4) * 1000
    there = network_boxes(boxes, scale)
    factor = boxes.new_tensor(scale).repeat(2)
    back = there / factor == boxes
    assert back.float().mean() > 0.7
    lost, by = boxes[~back], factor.expand_as(boxes)[~back]
    bits = (lost * by).view(torch.int32)  # neighbouring integers are neighbouring floats
    for step in range(-3, 4):
        assert not ((bits + step).view(torch.float32) / by == lost).any()


def test_chunks_formats_and_files_agree(tmp_path: Path) -> None:
    model = model_of('Mask R-CNN')
    boxes = torch.tensor([[5.0, 5.0, 60.0, 70.0], [40.0, 20.0, 120.0, 90.0], [0, 0, 30, 30]])
    whole = predict_masks(model, picture(), boxes, [0, 1, 2])
    assert predict_masks(model, picture(), boxes.numpy(), np.arange(3), chunk=1) == whole
    dense = predict_masks(model, picture(), boxes.tolist(), [0, 1, 2], mask_format='dense')
    assert dense.dtype == torch.bool and dense.shape == (3, *SIZE)
    assert encode(dense) == whole
    cv2.imwrite(str(tmp_path / 'a.png'), picture())
    assert predict_masks(model, tmp_path / 'a.png', boxes, [0, 1, 2]) == whole


def test_model_keeps_its_settings() -> None:
    model = model_of('Mask R-CNN')
    kind, config = type(model.roi_head.mask_head), dict(model.roi_head.test_cfg)
    before = inference_detector(model, picture()).pred_instances.masks
    predict_masks(model, picture(), [[1.0, 2.0, 50.0, 60.0]], [0])
    assert type(model.roi_head.mask_head) is kind and dict(model.roi_head.test_cfg) == config
    assert torch.equal(inference_detector(model, picture()).pred_instances.masks, before)


@pytest.mark.parametrize('name', ['RefineMaskHead', 'Cascade'])
def test_no_boxes_no_masks(name: str) -> None:
    model = model_of(name)
    assert predict_masks(model, picture(), [], []) == []
    empty = predict_masks(model, picture(), torch.zeros(0, 4), torch.zeros(0), mask_format='dense')
    assert empty.shape == (0, *SIZE)


def test_boxes_outside_the_image_are_cut_or_empty() -> None:
    model = model_of('RefineMaskHead')
    beyond = [[-20.0, -10.0, 60.0, 500.0], [0.0, 0.0, 60.0, 96.0]]
    a, b = predict_masks(model, picture(), beyond, [0, 0])
    assert a == b and coco_mask.area(a) > 0
    nowhere = [[200.0, 10.0, 300.0, 50.0], [10.0, 10.0, 10.0, 50.0], [-9.0, -9.0, 0.0, 5.0]]
    masks = predict_masks(model, picture(), [*nowhere, beyond[0]], [0, 1, 2, 0])
    assert [int(coco_mask.area(m)) for m in masks[:3]] == [0, 0, 0] and masks[3] == a
    assert {tuple(m['size']) for m in masks} == {SIZE}


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(boxes=[[0, 0, float('nan'), 5]]), r'box 0 is .*nan.*finite'),
        (dict(boxes=[[9, 0, 5, 5]]), r'x2 >= x1'),
        (dict(boxes=[[0, 0, 5]]), r'shape \(N, 4\), got \(1, 3\)'),
        (dict(labels=[3]), 'label 0 is 3, but the model has the classes 0 to 2'),
        (dict(labels=[-1]), 'label 0 is -1, but the model has the classes 0 to 2'),
        (dict(labels=[0, 1]), '1 boxes but 2 labels'),
        (dict(labels=[0.5]), 'whole numbers'),
        (dict(labels=None), 'labels must be numbers'),
        (dict(labels=['box']), 'labels must be numbers'),
        (dict(boxes=[[0, 0, 5, 5], [0, 0, 5]], labels=[0, 0]), 'boxes must be numbers, as many'),
        (dict(image='nowhere.jpg'), 'there is no image nowhere.jpg'),
        (dict(image=np.zeros((5, 5), np.uint8)), 'uint8 of shape'),
        (dict(image=np.zeros((0, 5, 3), np.uint8)), 'uint8 of shape'),
        (dict(mask_format='png'), 'mask_format must be one of'),
        (dict(chunk=0), 'at least 1 box'),
    ],
)
def test_bad_input_is_named(change: dict, message: str) -> None:
    call = dict(image=picture(), boxes=[[1.0, 1.0, 9.0, 9.0]], labels=[0]) | change
    with pytest.raises(ValueError, match=message):
        predict_masks(model_of('RefineMaskHead'), **call)


def test_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / 'a.jpg').write_text('not an image')
    (tmp_path / 'empty.jpg').touch()  # a download that broke off
    for name in ('a.jpg', 'empty.jpg'):
        with pytest.raises(ValueError, match=f'{name} is no image'):
            predict_masks(model_of('RefineMaskHead'), tmp_path / name, [[1.0, 1.0, 9.0, 9.0]], [0])


def test_numbers_of_any_kind_give_the_same_masks() -> None:
    model = model_of('RefineMaskHead')
    boxes = np.array([[40.0, 30.0, 90.0, 80.0], [5.0, 8.0, 50.0, 60.0]], np.float32)
    labels = np.array([1, 0])
    expected = predict_masks(model, picture(), boxes, labels)
    backwards = predict_masks(model, picture(), boxes[::-1], labels[::-1])
    assert backwards[::-1] == expected
    for kind in (np.uint8, np.uint16, np.uint64, np.int16):
        assert predict_masks(model, picture(), boxes.tolist(), labels.astype(kind)) == expected
    assert predict_masks(model, picture(), list(torch.from_numpy(boxes)), [1, 0]) == expected


def test_models_without_roi_masks_are_refused() -> None:
    call = (picture(), [[1.0, 1.0, 9.0, 9.0]], [0])
    with pytest.raises(TypeError, match='SipMask has no RoI head'):
        predict_masks(ready(tiny_sipmask.tiny_detector()), *call)
    boxes_only = tiny_stock_model('mask_rcnn/mask-rcnn_r50_fpn_1x_coco')
    del boxes_only.roi_head.mask_head
    with pytest.raises(TypeError, match='MaskRCNN of this config predicts boxes only'):
        predict_masks(ready(boxes_only), *call)
    queries = model_of('Mask R-CNN')
    queries.roi_head.__class__ = SparseRoIHead
    with pytest.raises(TypeError, match='its own queries'):
        predict_masks(queries, *call)
    with pytest.raises(ValueError, match=r'model\.eval'):
        BoxSegmenter(model_of('RefineMaskHead').train())
    with pytest.raises(ValueError, match='the model has no cfg'):
        BoxSegmenter(tiny_detector('RefineMaskHead').eval())


def test_call_is_public() -> None:
    assert mmrefine.predict_masks is predict_masks
    assert 'predict_masks' in dir(mmrefine)
