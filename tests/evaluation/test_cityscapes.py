"""Cityscapes scores: the official code's numbers, and the boundary rule put into them."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from evaluation.scenes import reference_band, shaken
from evaluation.town import H, W, make_city
from mmdet.registry import METRICS

from mmrefine.evaluation.boundary import band_width
from mmrefine.evaluation.cityscapes import import_engine, score_cityscapes
from mmrefine.evaluation.score_file import score_file
from mmrefine.evaluation.submission import CITYSCAPES_IDS

CLASSES = tuple(CITYSCAPES_IDS)


def build(folder: Path, **options: object) -> object:
    metric = METRICS.build(
        {
            'type': 'CityscapesMaskAPMetric',
            'seg_prefix': str(folder / 'gtFine' / 'val'),
            'outfile_prefix': str(folder / 'out'),
            'show_progress': False,
            **options,
        }
    )
    metric.dataset_meta = {'classes': CLASSES}
    return metric


def feed(metric: object, folder: Path, data: dict, results: list, dense: bool) -> None:
    from mmrefine.masks import to_dense

    for image in data['images']:
        own = [r for r in results if r['image_id'] == image['id']]
        rles = [r['segmentation'] for r in own]
        labels = [CLASSES.index(_name(r['category_id'])) for r in own]
        pred = {
            'bboxes': torch.zeros((len(own), 4)),
            'scores': torch.tensor([r['score'] for r in own], dtype=torch.float64),
            'labels': torch.tensor(labels, dtype=torch.long),
            'masks': to_dense(rles, (H, W)) if dense else rles,
        }
        path = str(folder / 'leftImg8bit' / 'val' / image['file_name'])
        sample = {'img_path': path, 'ori_shape': (H, W), 'pred_instances': pred}
        metric.process({}, [sample])


def _name(label: int) -> str:
    return next(name for name, value in CITYSCAPES_IDS.items() if value == label)


def official(folder: Path, tree: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    """The official road; only its debug file is left out, which np.int64 breaks."""
    engine = import_engine()
    args = engine.CArgs()
    vars(args).update(vars(engine.args))
    args.JSONOutput, args.quiet = False, True
    args.gtInstancesFile = str(folder / 'cache.json')
    args.predictionPath = str(tree)
    truths = sorted((folder / 'gtFine').rglob('*instanceIds.png'))
    texts = [tree / f'{p.name.split("_gtFine")[0]}_leftImg8bit_pred.txt' for p in truths]
    monkeypatch.setattr(engine, 'writeDict2JSON', lambda *_: None)
    return engine.evaluateImgLists(list(map(str, texts)), list(map(str, truths)), args)['averages']


@pytest.mark.parametrize('dense', [True, False])
def test_metric_equals_the_official_code(
    tmp_path: Path, dense: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, results = make_city(tmp_path)
    metric = build(tmp_path)
    feed(metric, tmp_path, data, results, dense)
    found = metric.evaluate(len(data['images']))
    expected = official(tmp_path, tmp_path / 'out' / 'results', monkeypatch)
    assert found['cityscapes/segm_AP'] == pytest.approx(expected['allAp'], abs=1e-12)
    assert found['cityscapes/segm_AP50'] == pytest.approx(expected['allAp50%'], abs=1e-12)
    car = expected['classes']['car']['ap']
    assert found['cityscapes/segm_AP/car'] == pytest.approx(car, abs=1e-12)
    assert found['cityscapes/segm_AP/bus'] == -1
    assert 0 < found['cityscapes/boundary_AP'] < found['cityscapes/segm_AP']


def test_boundary_matches_follow_the_definition(tmp_path: Path) -> None:
    """A single car: AP is the share of the thresholds below min(mask IoU, boundary IoU)."""
    rng = np.random.default_rng(3)
    tree = tmp_path / 'results'
    tree.mkdir()
    truth_path = tmp_path / 'town_000000_000019_gtFine_instanceIds.png'
    for _ in range(4):
        mask = cv2.ellipse(np.zeros((H, W), np.uint8), (120, 80), (70, 40), 0, 0, 360, 1, -1)
        moved = shaken(rng, mask)
        cv2.imwrite(str(truth_path), np.where(mask, 26001, 7).astype(np.uint16))
        cv2.imwrite(str(tree / 'a.png'), moved * 255)
        text = tree / 'town_000000_000019_leftImg8bit_pred.txt'
        text.write_text('a.png 26 0.9\n')
        width = band_width((H, W))
        pairs = [(mask, moved), (reference_band(mask, width), reference_band(moved, width))]
        ious = [np.count_nonzero(a & b) / np.count_nonzero(a | b) for a, b in pairs]
        thresholds = np.arange(0.5, 1.0, 0.05)
        found = score_cityscapes([(text, truth_path)])
        assert found['segm_AP'] == pytest.approx((ious[0] > thresholds).mean())
        assert found['boundary_AP'] == pytest.approx((min(ious) > thresholds).mean())


def test_files_score_as_the_metric_does(tmp_path: Path) -> None:
    data, results = make_city(tmp_path)
    metric = build(tmp_path)
    feed(metric, tmp_path, data, results, dense=False)
    expected = metric.evaluate(len(data['images']))
    annotations = tmp_path / 'annotations' / 'val.json'
    tree = tmp_path / 'out' / 'results'
    roads = [
        (annotations, tmp_path / 'results.json'),
        (tmp_path / 'gtFine', tree),
        (annotations, tree),
    ]
    for gt, source in roads:
        numbers, _ = score_file(gt, source, 'cityscapes', show_progress=False)
        for name, value in numbers.items():
            assert value == pytest.approx(expected[f'cityscapes/{name}'], abs=1e-12)


def test_the_split_is_the_one_the_json_names(tmp_path: Path) -> None:
    make_city(tmp_path)
    annotations = tmp_path / 'annotations' / 'val.json'
    expected, _ = score_file(annotations, tmp_path / 'results.json', 'cityscapes')
    for path in (tmp_path / 'gtFine').rglob('*.png'):
        twin = Path(str(path).replace('/val/', '/train/'))
        twin.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(twin), np.full((H, W), 7, np.uint16))
    found, _ = score_file(annotations, tmp_path / 'results.json', 'cityscapes')
    assert found == expected
    annotations.rename(tmp_path / 'annotations' / 'all.json')
    with pytest.raises(ValueError, match=r'several splits .* \(train, val\)'):
        score_file(annotations.with_name('all.json'), tmp_path / 'results.json', 'cityscapes')


def test_truth_as_prediction_scores_one_also_without_maps(tmp_path: Path) -> None:
    data, _ = make_city(tmp_path)
    perfect = [
        {k: a[k] for k in ('image_id', 'category_id', 'segmentation')} | {'score': 0.9}
        for a in data['annotations']
        if not a['iscrowd']
    ]
    (tmp_path / 'perfect.json').write_text(json.dumps(perfect))
    alone = tmp_path / 'elsewhere' / 'annotations'
    alone.mkdir(parents=True)
    (alone / 'val.json').write_text(json.dumps(data))
    for gt in (tmp_path / 'annotations' / 'val.json', alone / 'val.json'):
        numbers, _ = score_file(gt, tmp_path / 'perfect.json', 'cityscapes', show_progress=False)
        assert set(numbers.values()) == {1.0}


def test_no_predictions_and_no_instances(tmp_path: Path) -> None:
    data, _ = make_city(tmp_path)
    metric = build(tmp_path)
    feed(metric, tmp_path, data, [], dense=False)
    assert metric.evaluate(5)['cityscapes/segm_AP'] == 0
    for path in (tmp_path / 'gtFine').rglob('*.png'):
        cv2.imwrite(str(path), np.full((H, W), 7, np.uint16))
    metric = build(tmp_path)
    feed(metric, tmp_path, data, [], dense=False)
    assert set(metric.evaluate(5).values()) == {-1.0}


def test_images_without_result_or_truth_are_named(tmp_path: Path) -> None:
    data, results = make_city(tmp_path)
    (tmp_path / 'tree').mkdir()
    with pytest.raises(ValueError, match=r'5 of 5 images have no \*_pred.txt'):
        score_file(tmp_path / 'gtFine', tmp_path / 'tree', 'cityscapes')
    with pytest.raises(ValueError, match='refers to images by number'):
        score_file(tmp_path / 'gtFine', tmp_path / 'results.json', 'cityscapes')
    next((tmp_path / 'gtFine').rglob('*.png')).unlink()
    metric = build(tmp_path)
    feed(metric, tmp_path, data, results, dense=False)
    with pytest.raises(ValueError, match='there is no .*instanceIds.png'):
        metric.evaluate(5)
