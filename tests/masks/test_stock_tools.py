"""MMDetection's own tools take RLE masks as they take dense ones."""

import copy
import json
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer
from mmdet.evaluation import CocoMetric, DumpDetResults
from mmdet.registry import VISUALIZERS
from mmdet.structures import DetDataSample
from mmengine.evaluator import Evaluator
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask
from tiny_stock_models import tiny_stock_config

from mmrefine.masks import RLEMasks, encode, to_dense
from mmrefine.masks.stock_heads import set_mask_format

SIZE = (40, 50)


def some_masks() -> torch.Tensor:
    masks = torch.zeros(3, *SIZE, dtype=torch.bool)
    masks[0, 5:20, 5:30] = masks[1, 25:39, 20:45] = masks[2, 1:4] = True
    return masks


def in_both_formats() -> list:
    return [some_masks(), RLEMasks(encode(some_masks()), SIZE)]


def sample(masks: torch.Tensor | RLEMasks) -> DetDataSample:
    boxes = torch.tensor([[5.0, 5, 30, 20], [20, 25, 45, 39], [0, 1, 50, 4]])[: len(masks)]
    found = InstanceData(
        bboxes=boxes,
        labels=torch.arange(len(masks)),
        scores=torch.tensor([0.9, 0.8, 0.1])[: len(masks)],
        masks=masks,
    )
    return DetDataSample(metainfo=dict(img_id=1, ori_shape=SIZE), pred_instances=found)


def test_masks_are_a_sequence_of_rles() -> None:
    dense, masks = in_both_formats()
    assert masks == encode(dense) and masks.tolist() == encode(dense)
    assert len(masks) == 3 and masks.shape == (3, *SIZE)
    assert json.loads(json.dumps(dict(masks[0], counts='')))['size'] == list(SIZE)
    assert coco_mask.iou(masks.tolist(), masks.tolist(), [0] * 3).trace() == 3
    assert to_dense(masks).equal(dense) and to_dense(masks[:0], SIZE).shape == (0, *SIZE)
    assert torch.equal(masks.detach().cpu(), dense)
    assert np.array_equal(np.asarray(masks, np.uint8), dense.numpy())
    assert np.array_equal(masks[1][:, :, None], dense[1, :, :, None].numpy())


@pytest.mark.parametrize(
    'index',
    [
        slice(1, None),
        [2, 0],
        [True, False, True],
        torch.tensor([1, 1]),
        torch.tensor([False, True, True]),
        np.array([-1]),
        [],
    ],
)
def test_masks_are_indexed_like_a_tensor(index: object) -> None:
    dense, masks = in_both_formats()
    chosen = masks[index]
    assert isinstance(chosen, RLEMasks)
    expected = dense[index] if len(chosen) else dense[:0]
    assert torch.equal(chosen.cpu(), expected)


def test_detections_are_filtered_joined_and_copied() -> None:
    found = sample(in_both_formats()[1]).pred_instances
    for kept in (found[found.scores > 0.5], found[:2], found[torch.tensor([0, 1])], found[[0, 1]]):
        assert isinstance(kept.masks, RLEMasks) and kept.masks == found.masks[:2]
    assert found[found.scores > 1].masks.shape == (0, *SIZE)
    assert InstanceData.cat([found[:1], found[1:]]).masks == found.masks
    for again in (copy.deepcopy(found), pickle.loads(pickle.dumps(found)), found.cpu()):
        assert isinstance(again.masks, RLEMasks) and again.masks == found.masks


def test_dumps_are_equal(tmp_path: Path) -> None:
    files = []
    for masks in in_both_formats():
        path = tmp_path / f'{len(files)}.pkl'
        evaluator = Evaluator([DumpDetResults(str(path))])
        evaluator.process([sample(masks), sample(masks[:0])])
        evaluator.evaluate(2)
        files.append(pickle.loads(path.read_bytes()))
    for one, other in zip(*files):
        assert one['pred_instances']['masks'] == other['pred_instances']['masks']
        assert all(type(mask) is dict for mask in other['pred_instances']['masks'])


def test_pictures_are_equal() -> None:
    drawn = []
    image = np.full((*SIZE, 3), 127, dtype=np.uint8)
    for masks in in_both_formats():
        for kind in ('DetLocalVisualizer', 'RLELocalVisualizer'):
            visualizer = VISUALIZERS.build(dict(type=kind, name=f'{kind}-{len(drawn)}'))
            visualizer.dataset_meta = dict(classes=('a', 'b', 'c'), palette=[(255, 0, 0)] * 3)
            np.random.seed(0)  # mmdet jitters the colours
            visualizer.add_datasample('picture', image, sample(masks), draw_gt=False)
            drawn.append(visualizer.get_image())
    assert (drawn[0] != image).any()
    assert all(np.array_equal(picture, drawn[0]) for picture in drawn)


def test_coco_scores_are_equal(tmp_path: Path) -> None:
    annotations = [
        dict(
            id=i + 1, image_id=1, category_id=i, bbox=[1, 1, 5, 5], area=int(mask.sum()), iscrowd=0,
            segmentation=dict(rle, counts=rle['counts'].decode()),
        )
        for i, (mask, rle) in enumerate(zip(some_masks(), encode(some_masks())))
    ]  # fmt: skip
    images = [dict(id=1, height=SIZE[0], width=SIZE[1])]
    categories = [dict(id=i, name=name) for i, name in enumerate('abc')]
    truth = tmp_path / 'truth.json'
    truth.write_text(
        json.dumps(dict(images=images, annotations=annotations, categories=categories))
    )
    scores = []
    for masks in in_both_formats():
        metric = CocoMetric(ann_file=str(truth), metric=['segm'])
        metric.dataset_meta = dict(classes=tuple('abc'))
        metric.process({}, [dict(sample(masks).to_dict(), **sample(masks).metainfo)])
        scores.append(metric.evaluate(1))
    assert scores[0] == scores[1] and scores[0]['coco/segm_mAP'] == 1


@pytest.mark.parametrize('threshold', [0.0, 2.0], ids=['detections', 'no detections'])
def test_the_inferencer_draws_and_dumps(tmp_path: Path, threshold: float) -> None:
    config = tiny_stock_config('mask_rcnn/mask-rcnn_r50_fpn_1x_coco')
    config.model.test_cfg.rcnn.score_thr = threshold
    picture = tmp_path / 'picture.png'
    cv2.imwrite(str(picture), np.random.RandomState(0).randint(0, 255, (64, 96, 3), np.uint8))
    config.dump(tmp_path / 'config.py')
    torch.manual_seed(0)
    inferencer = DetInferencer(str(tmp_path / 'config.py'), device='cpu', palette='random')
    predictions = []
    for mask_format in ('dense', 'rle'):
        set_mask_format(inferencer.model, mask_format)
        out = tmp_path / mask_format
        np.random.seed(0)
        found = inferencer(str(picture), out_dir=str(out), no_save_pred=False)
        predictions.append(found['predictions'])
        assert list(out.glob('vis/*')) and json.loads(next(out.glob('preds/*.json')).read_text())
    assert predictions[0] == predictions[1]
    assert bool(predictions[0][0]['masks']) is (threshold == 0)
