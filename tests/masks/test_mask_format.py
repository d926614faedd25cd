"""Stock detectors hand out the same masks as RLE and dense."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.evaluation import DumpDetResults
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.registry import HOOKS, METRICS, MODELS, VISUALIZERS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData
from tiny_stock_models import tiny_stock_model

from mmrefine.masks import encode, to_dense
from mmrefine.masks.stock_heads import RLEMasks, set_mask_format

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
        assert isinstance(other.masks, list)
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
    assert rle[1].masks == []
    config.mask_format = 'dense'
    again = ours.predict_by_feat(inputs, results(), metas, config, rescale=True)
    assert torch.equal(again[0].masks, dense[0].masks)
    assert again[1].masks.shape == (0, 40, 50)
    config.mask_format = 'png'
    with pytest.raises(ValueError, match=r"\('dense', 'rle'\), got 'png'"):
        ours.predict_by_feat(inputs, results(), metas, config, rescale=True)


def test_every_stock_head_with_rle_output_is_registered() -> None:
    for kind in ('FCN', 'HTC', 'Coarse', 'SCNet', 'Dynamic'):
        head = MODELS.get(f'RLE{kind}MaskHead')
        assert issubclass(head, RLEMasks) and issubclass(head, MODELS.get(f'{kind}MaskHead'))


def test_the_hook_converts_the_model_and_keeps_its_state_dict() -> None:
    model = tiny_stock_model(CONFIGS[1])
    names = list(model.state_dict())
    hook = HOOKS.build(dict(type='MaskFormatHook', mask_format='rle'))
    hook.before_run(SimpleNamespace(model=model))
    assert all(isinstance(head, RLEMasks) for head in model.roi_head.mask_head)
    assert list(model.state_dict()) == names
    assert isinstance(predict(model)[0].masks, list)
    hook.before_run(SimpleNamespace(model=model))
    assert isinstance(predict(model)[0].masks, list)


def test_the_hook_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match="got 'png'"):
        HOOKS.build(dict(type='MaskFormatHook', mask_format='png'))
    with pytest.raises(ValueError, match='Linear has no RoI mask head'):
        set_mask_format(torch.nn.Linear(1, 1), 'rle')


def test_results_can_be_filtered_like_any_other() -> None:
    model = tiny_stock_model(CONFIGS[0])
    set_mask_format(model, 'rle')
    found = predict(model)[0]
    best = found[found.scores >= found.scores[2]]
    assert best.masks == found.masks[: len(best)]


def test_the_visualizer_draws_rle_like_dense_masks() -> None:
    image = np.full((40, 50, 3), 127, dtype=np.uint8)
    masks = torch.zeros(2, 40, 50, dtype=torch.bool)
    masks[0, 5:20, 5:30] = masks[1, 25:39, 20:45] = True
    drawn = []
    for kind, form in (('DetLocalVisualizer', masks), ('RLELocalVisualizer', encode(masks))):
        visualizer = VISUALIZERS.build(dict(type=kind, name=f'{kind}-test'))
        visualizer.dataset_meta = dict(classes=('a', 'b'), palette=[(255, 0, 0), (0, 255, 0)])
        found = InstanceData(
            bboxes=torch.tensor([[5.0, 5.0, 30.0, 20.0], [20.0, 25.0, 45.0, 39.0]]),
            labels=torch.tensor([0, 1]),
            scores=torch.tensor([0.9, 0.8]),
            masks=form,
        )
        sample = DetDataSample(pred_instances=found)
        np.random.seed(0)  # mmdet jitters the colours
        visualizer.add_datasample('picture', image, sample, draw_gt=False)
        drawn.append(visualizer.get_image())
    assert (drawn[0] != image).any()
    assert np.array_equal(drawn[0], drawn[1])
    assert to_dense(encode(masks)).equal(masks)


def test_dumped_results_are_the_same_in_both_formats(tmp_path: Path) -> None:
    masks = torch.rand(3, 20, 30) > 0.5
    dumps = [DumpDetResults(str(tmp_path / 'a.pkl')) for _ in range(2)]
    hook = HOOKS.build(dict(type='MaskFormatHook'))
    hook.before_test(SimpleNamespace(test_evaluator=SimpleNamespace(metrics=dumps[1:])))
    for dump, form in zip(dumps, (masks, encode(masks))):
        samples = [
            dict(img_id=1, pred_instances=dict(scores=torch.rand(3) * 0, masks=form)),
            dict(img_id=2, pred_instances=dict(scores=torch.rand(0), masks=masks[:0])),
        ]
        dump.process({}, samples)
        assert samples[0]['pred_instances']['masks'] is form
    assert [str(r) for r in dumps[0].results] == [str(r) for r in dumps[1].results]
    assert dumps[1].results[0]['pred_instances']['masks'] == encode(masks)


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
    assert 0 < numbers[0]['coco/boundary_AP'] <= numbers[0]['coco/segm_AP'] < 1
