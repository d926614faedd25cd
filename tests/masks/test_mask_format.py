"""Stock detectors hand out the same masks as RLE and dense."""

import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from locations import ROOT
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.registry import HOOKS, METRICS, MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData
from tiny_export import refine_model, sharp_model
from tiny_stock_models import tiny_stock_model

from mmrefine.masks import RLEMasks, encode
from mmrefine.masks.stock_heads import RLE_HEADS, RLEOutput, set_mask_format

CONFIGS = [
    'mask_rcnn/mask-rcnn_r50_fpn_1x_coco',
    'cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco',
    'htc/htc-without-semantic_r50_fpn_1x_coco',
    'point_rend/point-rend_r50-caffe_fpn_ms-1x_coco',
    'ms_rcnn/ms-rcnn_r50-caffe_fpn_1x_coco',
    'scnet/scnet_r50_fpn_1x_coco',
]


def batch() -> dict:
    """Two noise images of different sizes, as a detector's data preprocessor takes them."""
    generator = torch.Generator().manual_seed(1)
    inputs, samples = [], []
    for height, width, scale in ((64, 96, 1.0), (60, 80, 0.4)):
        inputs.append(torch.randint(0, 255, (3, height, width), generator=generator).byte())
        meta = dict(
            img_shape=(height, width),
            ori_shape=(round(height / scale), round(width / scale)),
            scale_factor=(scale, scale),
        )
        samples.append(DetDataSample(metainfo=meta))
    return dict(inputs=inputs, data_samples=samples)


def predict(model: torch.nn.Module, rescale: bool = True) -> list[InstanceData]:
    data = model.data_preprocessor(batch(), training=False)
    with torch.no_grad():
        results = model.predict(data['inputs'], data['data_samples'], rescale=rescale)
    return [sample.pred_instances for sample in results]


@pytest.mark.parametrize('name', CONFIGS)
def test_stock_detectors_give_equal_masks_in_both_formats(name: str) -> None:
    model = tiny_stock_model(name)
    dense = predict(model)
    assert set_mask_format(model, 'rle') >= 1
    rle = predict(model)
    for one, other, (height, width) in zip(dense, rle, ((64, 96), (150, 200))):
        assert len(one) > 5
        assert isinstance(other.masks, RLEMasks)
        assert one.masks.shape[1:] == (height, width)
        assert 0 < one.masks.float().mean() < 1
        assert other.masks == encode(one.masks)
        assert torch.equal(one.bboxes, other.bboxes)
    set_mask_format(model, 'dense')
    assert torch.equal(predict(model)[0].masks, dense[0].masks)


def test_masks_at_the_network_input_size() -> None:
    model = tiny_stock_model(CONFIGS[0])
    dense = predict(model, rescale=False)
    set_mask_format(model, 'rle')
    for one, other in zip(dense, predict(model, rescale=False)):
        assert other.masks == encode(one.masks)


def heads(kind: str, **more: object) -> tuple[FCNMaskHead, FCNMaskHead]:
    """A stock head and its RLE namesake with the same weights."""
    config = dict(num_classes=3, in_channels=8, conv_out_channels=8, **more)
    if kind != 'CoarseMaskHead':
        config['num_convs'] = 1
    stock, ours = (MODELS.build(dict(type=name, **config)) for name in (kind, f'RLE{kind}'))
    ours.load_state_dict(stock.state_dict())
    return stock, ours


@pytest.mark.parametrize('agnostic', [False, True])
@pytest.mark.parametrize('kind', ['FCNMaskHead', 'HTCMaskHead', 'SCNetMaskHead'])
def test_named_heads_give_rle_without_further_settings(kind: str, agnostic: bool) -> None:
    stock, ours = heads(kind, class_agnostic=agnostic)
    logits = torch.randn(4, 1 if agnostic else 3, 14, 14)
    metas = [dict(ori_shape=(40, 50), img_shape=(40, 50), scale_factor=(1.0, 1.0))] * 2
    config = Config(dict(mask_thr_binary=0.5))

    def results() -> list[InstanceData]:
        boxes = torch.tensor([[1.0, 2.0, 30.0, 35.0]]).repeat(4, 1)
        found = InstanceData(bboxes=boxes, labels=torch.tensor([0, 1, 2, 0]))
        return [found, InstanceData(bboxes=boxes[:0], labels=found.labels[:0])]

    inputs = (logits, logits[:0])
    dense = stock.predict_by_feat(inputs, results(), metas, config, rescale=True)
    rle = ours.predict_by_feat(inputs, results(), metas, config, rescale=True)
    assert rle[0].masks == encode(dense[0].masks)
    assert rle[1].masks.shape == (0, 40, 50)
    config.mask_format = 'dense'
    again = ours.predict_by_feat(inputs, results(), metas, config, rescale=True)
    assert torch.equal(again[0].masks, dense[0].masks)
    assert again[1].masks.shape == (0, 40, 50)
    config.mask_format = 'png'
    with pytest.raises(ValueError, match=r"\('dense', 'rle'\), got 'png'"):
        ours.predict_by_feat(inputs, results(), metas, config, rescale=True)


def test_every_stock_head_with_rle_output_is_registered() -> None:
    for stock, head in RLE_HEADS.items():
        assert MODELS.get(f'RLE{stock.__name__}') is head
        assert issubclass(head, RLEOutput) and issubclass(head, stock)


def test_the_hook_converts_the_model_and_keeps_its_state_dict() -> None:
    model = tiny_stock_model(CONFIGS[1])
    names = list(model.state_dict())
    hook = HOOKS.build(dict(type='MaskFormatHook', mask_format='rle'))
    hook.before_run(SimpleNamespace(model=model))
    assert all(isinstance(head, RLEOutput) for head in model.roi_head.mask_head)
    assert list(model.state_dict()) == names
    assert isinstance(predict(model)[0].masks, RLEMasks)
    hook.before_run(SimpleNamespace(model=model))
    assert isinstance(predict(model)[0].masks, RLEMasks)


@pytest.mark.parametrize('name', CONFIGS)
def test_converted_models_are_copied_and_pickled(name: str) -> None:
    model = tiny_stock_model(name)
    before = dict(model.named_parameters())
    set_mask_format(model, 'rle')
    assert dict(model.named_parameters()).keys() == before.keys()
    assert all(weight is before[key] for key, weight in model.named_parameters())
    expected = predict(model)
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        for one, other in zip(predict(again), expected):
            assert one.masks == other.masks and torch.equal(one.scores, other.scores)


@pytest.mark.parametrize('build', [lambda: refine_model('RefineMaskHead'), sharp_model])
def test_models_of_ours_follow_the_hook(build: Callable[[], torch.nn.Module]) -> None:
    model = build()
    dense = predict(model)
    assert set_mask_format(model, 'rle') == 0
    for one, other in zip(dense, predict(model)):
        assert isinstance(other.masks, RLEMasks) and other.masks == encode(one.masks)


def test_the_hook_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match="got 'png'"):
        HOOKS.build(dict(type='MaskFormatHook', mask_format='png'))
    with pytest.raises(ValueError, match='Linear has no RoI mask head'):
        set_mask_format(torch.nn.Linear(1, 1), 'rle')

    class OtherHead(FCNMaskHead):
        pass

    with pytest.raises(ValueError, match='OtherHead cannot give masks as RLE, only FCNMaskHead'):
        set_mask_format(torch.nn.Sequential(OtherHead()), 'rle')


@pytest.mark.parametrize('mask_format', ['dense', 'rle'])
def test_detectors_without_masks_are_refused_whatever_their_neck(mask_format: str) -> None:
    config = Config.fromfile(ROOT / 'configs' / 'sharpmask' / 'sharpmask-neck_fcos_r50_1x_coco.py')
    with torch.device('meta'):
        model = MODELS.build(config.model)
    with pytest.raises(ValueError, match='FCOS has no RoI mask head'):
        set_mask_format(model, mask_format)


def test_detectors_derived_from_ours_are_served() -> None:
    model = refine_model('RefineMaskHead')
    own = type('OwnRoIHead', (type(model.roi_head),), {'__module__': 'elsewhere'})
    model.roi_head.__class__ = own
    assert set_mask_format(model, 'rle') == 0
    assert isinstance(predict(model)[0].masks, RLEMasks)


def test_results_can_be_filtered_like_any_other() -> None:
    model = tiny_stock_model(CONFIGS[0])
    set_mask_format(model, 'rle')
    found = predict(model)[0]
    best = found[found.scores >= found.scores[2]]
    assert best.masks == found.masks[: len(best)]


def annotations(found: list[InstanceData], sizes: list[tuple[int, int]]) -> dict:
    """A COCO data set that some of the predictions hit well, some badly and some not at all."""
    entries = []
    for image, one in enumerate(found):
        for mask, label in list(zip(one.masks.numpy(), one.labels.tolist()))[::2]:
            if not mask.any():
                continue
            moved = np.roll(mask, 1 + len(entries) % 4, axis=1)
            rle = encode(moved[None])[0]
            ys, xs = np.nonzero(moved)
            box = [int(xs.min()), int(ys.min()), int(np.ptp(xs)) + 1, int(np.ptp(ys)) + 1]
            entries.append(
                dict(
                    id=len(entries) + 1,
                    image_id=image,
                    category_id=label,
                    segmentation=dict(rle, counts=rle['counts'].decode()),
                    bbox=box,
                    area=int(moved.sum()),
                    iscrowd=0,
                )
            )
    images = [dict(id=i, height=h, width=w) for i, (h, w) in enumerate(sizes)]
    categories = [dict(id=c, name=f'class {c}') for c in range(3)]
    return dict(images=images, annotations=entries, categories=categories)


@pytest.mark.parametrize('name', CONFIGS[:4])
def test_average_precision_is_equal_in_both_formats(name: str, tmp_path: Path) -> None:
    model = tiny_stock_model(name)
    sizes = [(64, 96), (150, 200)]
    predictions = [predict(model)]
    set_mask_format(model, 'rle')
    predictions.append(predict(model))
    (tmp_path / 'gt.json').write_text(json.dumps(annotations(predictions[0], sizes)))
    numbers = []
    for found in predictions:
        metric = METRICS.build(dict(type='MaskAPMetric', ann_file=str(tmp_path / 'gt.json')))
        samples = [
            dict(img_id=i, ori_shape=size, pred_instances=one.to_dict())
            for i, (size, one) in enumerate(zip(sizes, found))
        ]
        metric.process({}, samples)
        numbers.append(metric.evaluate(2))
    assert numbers[0] == numbers[1]
    assert 0 < numbers[0]['coco/boundary_mAP'] <= numbers[0]['coco/segm_mAP'] < 1
