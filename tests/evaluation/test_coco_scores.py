"""COCO numbers: the published sample, pycocotools itself, and the boundary reference."""

import io
import json
import lzma
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from evaluation.scenes import make_scene
from locations import data_directory
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmrefine.evaluation import GroundTruth, evaluate, load_results, make_rules

# AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl; see tests/data/coco_sample/README.md.
EXPECTED = {
    'segm': '.3195 .5623 .2989 .3874 .3102 .3269 .2682 .4154 .4168 .4694 .3768 .3815',
    'bbox': '.5046 .6970 .5730 .5856 .5194 .5014 .3868 .5937 .5954 .6398 .5664 .5643',
    'boundary': '.2264 .3775 .2256 .3874 .2724 .0755 .1872 .3127 .3140 .4694 .3405 .1039',
}
NAMES = (
    'AP',
    'AP50',
    'AP75',
    'AP_s',
    'AP_m',
    'AP_l',
    'AR1',
    'AR10',
    'AR100',
    'AR_s',
    'AR_m',
    'AR_l',
)


def sample(root: Path, name: str) -> object:
    with lzma.open(root / 'tests' / 'data' / 'coco_sample' / f'{name}.json.xz') as file:
        return json.load(file)


@pytest.mark.parametrize('backend', ['pycocotools', 'vernier'])
@pytest.mark.parametrize('iou_type', ['bbox', 'segm', 'boundary'])
def test_published_sample(root: Path, iou_type: str, backend: str) -> None:
    gt = GroundTruth.from_dict(sample(root, 'truth'))
    dt = load_results(sample(root, 'bbox' if iou_type == 'bbox' else 'segm'), gt)
    numbers = evaluate(gt, dt, [iou_type], backend=backend).numbers
    found = [numbers[f'{iou_type}_{name}'] for name in NAMES]
    np.testing.assert_allclose(found, [float(v) for v in EXPECTED[iou_type].split()], atol=5e-5)


def pycocotools_numbers(truth: dict, results: list, iou_type: str, caps: list[int]) -> list[float]:
    with redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = json.loads(json.dumps(truth))
        gt.createIndex()
        run = COCOeval(gt, gt.loadRes(json.loads(json.dumps(results))), iou_type)
        run.params.maxDets = caps
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run.stats.tolist()


@pytest.mark.parametrize('iou_type', ['bbox', 'segm'])
@pytest.mark.parametrize('seed', range(6))
def test_equal_to_pycocotools(seed: int, iou_type: str) -> None:
    truth, results = make_scene(seed)
    gt = GroundTruth.from_dict(truth)
    numbers = evaluate(gt, load_results(results, gt), [iou_type]).numbers
    expected = pycocotools_numbers(truth, results, iou_type, [1, 10, 100])
    np.testing.assert_allclose([numbers[f'{iou_type}_{n}'] for n in NAMES], expected, atol=1e-12)


def test_caps_areas_and_thresholds_can_be_chosen() -> None:
    truth, results = make_scene(3, images=20)
    gt = GroundTruth.from_dict(truth)
    rules = make_rules(max_dets=(1, 2), areas={'tiny': (0, 200)}, iou_thresholds=0.5)
    numbers = evaluate(gt, load_results(results, gt), ['segm'], rules).numbers
    assert list(numbers) == [
        f'segm_{n}' for n in ('AP', 'AP50', 'AP_tiny', 'AR1', 'AR2', 'AR_tiny')
    ]
    full = evaluate(gt, load_results(results, gt), ['segm']).numbers
    assert numbers['segm_AR1'] <= numbers['segm_AR2']
    with redirect_stdout(io.StringIO()):
        api = COCO()
        api.dataset = truth
        api.createIndex()
        run = COCOeval(api, api.loadRes([dict(r) for r in results]), 'segm')
        run.params.maxDets = [1, 2]
        run.params.iouThrs = np.array([0.5])
        run.params.areaRng = [[0, 1e10], [0, 200]]
        run.params.areaRngLbl = ['all', 'tiny']
        run.evaluate()
        run.accumulate()
    precision, recall = run.eval['precision'][0], run.eval['recall'][0]
    for area, name in ((0, 'AP'), (1, 'AP_tiny')):
        values = precision[:, :, area, 1]
        assert numbers[f'segm_{name}'] == pytest.approx(values[values > -1].mean(), abs=1e-12)
    values = recall[:, 0, 0]
    assert numbers['segm_AR1'] == pytest.approx(values[values > -1].mean(), abs=1e-12)
    assert full['segm_AP50'] >= numbers['segm_AP50'] - 1e-12


def test_more_than_a_hundred_objects_need_a_higher_cap() -> None:
    h, w = 200, 200
    boxes = [[(i % 15) * 13, (i // 15) * 13, 10, 10] for i in range(150)]
    truth = {
        'images': [{'id': 1, 'height': h, 'width': w}],
        'categories': [{'id': 1, 'name': 'nucleus'}],
        'annotations': [
            {'id': i + 1, 'image_id': 1, 'category_id': 1, 'bbox': b, 'area': 100, 'iscrowd': 0}
            for i, b in enumerate(boxes)
        ],
    }
    gt = GroundTruth.from_dict(truth)
    dt = load_results(
        [{'image_id': 1, 'category_id': 1, 'bbox': b, 'score': 0.9} for b in boxes], gt
    )
    assert evaluate(gt, dt, ['bbox']).numbers['bbox_AR100'] == pytest.approx(100 / 150)
    many = evaluate(gt, dt, ['bbox'], make_rules(max_dets=500)).numbers
    assert many['bbox_AP'] == 1 and many['bbox_AR500'] == 1


def test_mask_areas_decide_unless_boxes_are_asked_for() -> None:
    truth, results = make_scene(1, images=20)
    gt = GroundTruth.from_dict(truth)
    with_boxes = [dict(r) for r in results]
    dt = load_results(results, gt)
    for entry, box in zip(with_boxes, dt.filled_boxes(gt)):
        entry['bbox'] = box.tolist()
    areas = {'s': (0, 400), 'l': (400, 1e10)}
    rules = make_rules(areas=areas)
    plain = evaluate(gt, load_results(results, gt), ['segm'], rules).numbers
    assert evaluate(gt, load_results(with_boxes, gt), ['segm'], rules).numbers == plain
    boxed = evaluate(gt, load_results(with_boxes, gt), ['segm'], rules, box_areas=True).numbers
    with redirect_stdout(io.StringIO()):
        api = COCO()
        api.dataset = truth
        api.createIndex()
        run = COCOeval(api, api.loadRes(with_boxes), 'segm')
        run.params.areaRng = [[0, 1e10], [0, 400], [400, 1e10]]
        run.params.areaRngLbl = ['all', 's', 'l']
        run.evaluate()
        run.accumulate()
    values = run.eval['precision'][:, :, :, 1, -1]
    assert boxed['segm_AP_s'] == pytest.approx(values[values > -1].mean(), abs=1e-12)
    assert boxed['segm_AP_s'] != plain['segm_AP_s']


def perfect_results(gt: GroundTruth) -> list[dict]:
    gt.require(boxes=True, masks=True)
    return [
        {k: a[k] for k in ('image_id', 'category_id', 'bbox', 'segmentation')} | {'score': 0.9}
        for a in gt.annotations
        if not a['iscrowd']
    ]


def scores_one(truth: dict, backend: str = 'pycocotools') -> None:
    gt = GroundTruth.from_dict(truth)
    dt = load_results(perfect_results(gt), gt)
    numbers = evaluate(gt, dt, rules=make_rules(max_dets=1000), backend=backend).numbers
    for name in ('bbox_AP', 'segm_AP', 'boundary_AP', 'boundary_AP75', 'segm_AR1000'):
        assert numbers[name] == pytest.approx(1, abs=1e-9), name


def test_truth_as_prediction_scores_one(root: Path) -> None:
    scores_one(sample(root, 'truth'))
    scores_one(make_scene(5)[0])


@pytest.mark.slow
@pytest.mark.parametrize('backend', ['pycocotools', 'vernier'])
def test_truth_as_prediction_scores_one_on_real_data(backend: str) -> None:
    folder = data_directory()
    files = sorted(folder.glob('*/annotations/instances_*.json')) if folder else []
    for file in files:
        scores_one(json.loads(file.read_text()), backend)


@pytest.mark.parametrize(
    ('max_dets', 'caps'), [(1, (1,)), (10, (1, 10)), (11, (1, 10, 11)), ([30, 2, 2], (2, 30))]
)
def test_caps_on_the_detections(max_dets: object, caps: tuple[int, ...]) -> None:
    assert make_rules('coco', max_dets).max_dets == caps
