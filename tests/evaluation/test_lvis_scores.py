"""LVIS numbers equal those of the lvis package; AP* keeps its rules."""

import json
from pathlib import Path

import numpy as np
import pytest
from evaluation.references import lvis_scores
from evaluation.scenes import make_scene, shaken, text_rle
from locations import data_directory
from pycocotools import mask as coco_mask

from mmrefine.evaluation import GroundTruth, cocofy, evaluate, load_results, make_rules
from mmrefine.evaluation.evaluate import admitted


def lvis_numbers(*args: object, **kwargs: object) -> dict[str, float]:
    return lvis_scores(*args, **kwargs)[0]


def compare(tmp_path: Path, truth: dict, results: list, iou_type: str, backend: str) -> None:
    gt = GroundTruth.from_dict(truth, federated=True)
    dt = load_results(results, gt)
    numbers = evaluate(gt, dt, [iou_type], make_rules('lvis'), backend).numbers
    expected = lvis_numbers(tmp_path, truth, results, iou_type)
    expected['AR300'] = expected.pop('AR')
    for name, value in expected.items():
        assert numbers[f'{iou_type}_{name}'] == pytest.approx(value, abs=1e-9), name


@pytest.mark.parametrize('backend', ['pycocotools', 'vernier'])
@pytest.mark.parametrize('iou_type', ['bbox', 'segm', 'boundary'])
@pytest.mark.parametrize('seed', [0, 1, 2])
def test_equal_to_the_lvis_package(tmp_path: Path, seed: int, iou_type: str, backend: str) -> None:
    truth, results = make_scene(seed, images=15, lvis=True)
    compare(tmp_path, truth, results, iou_type, backend)


@pytest.mark.parametrize('backend', ['pycocotools', 'vernier'])
def test_lists_may_contradict_the_annotations(tmp_path: Path, backend: str) -> None:
    truth, results = make_scene(5, lvis=True)
    for image in truth['images']:
        image['neg_category_ids'] = [3, 5]
        image['not_exhaustive_category_ids'] = [5, 7]
    compare(tmp_path, truth, results, 'segm', backend)


@pytest.mark.parametrize('iou_type', ['segm', 'boundary'])
def test_three_hundred_detections_an_image_count(tmp_path: Path, iou_type: str) -> None:
    truth, results = make_scene(4, images=3, lvis=True)
    many = [
        dict(r, score=round(0.9 * r['score'] + 0.001 * i, 3)) for i in range(60) for r in results
    ]
    assert len(many) > 600
    compare(tmp_path, truth, many, iou_type, 'pycocotools')


@pytest.mark.parametrize(('protocol', 'cap'), [('lvis', 1), ('lvis', 20), ('lvis-fixed', 20)])
def test_of_equal_scores_the_first_ones_count_up_to_the_cap(protocol: str, cap: int) -> None:
    truth, _ = make_scene(4, lvis=True)
    hit = {**truth['annotations'][0], 'score': 0.5}
    gt = GroundTruth.from_dict(truth, federated=True)
    results = [hit, {**hit, 'score': 0.4}] * 40
    dt = load_results(results, gt)
    kept = admitted(gt, dt, dt.scores, make_rules(protocol, cap))
    assert kept.tolist() == list(range(0, 2 * cap, 2))


def test_fixed_ap_caps_the_category_not_the_image(tmp_path: Path) -> None:
    truth, results = make_scene(4, images=3, lvis=True)
    many = [
        dict(r, score=round(0.9 * r['score'] + 0.001 * i, 3)) for i in range(60) for r in results
    ]
    gt = GroundTruth.from_dict(truth, federated=True)
    found = evaluate(gt, load_results(many, gt), ['segm'], make_rules('lvis-fixed')).numbers
    expected = lvis_numbers(tmp_path, truth, many, 'segm', max_dets=-1)
    for name, value in expected.items():
        assert found[f'segm_{name}'] == pytest.approx(value, abs=1e-9), name
    best: dict[int, list] = {}
    for entry in sorted(many, key=lambda r: -r['score']):
        best.setdefault(entry['category_id'], []).append(entry)
    kept = [entry for rows in best.values() for entry in rows[:40]]
    expected = lvis_numbers(tmp_path, truth, kept, 'segm', max_dets=-1)
    rules = make_rules('lvis-fixed', max_dets=40)
    capped = evaluate(gt, load_results(many, gt), ['segm'], rules).numbers
    for name, value in expected.items():
        assert capped[f'segm_{name}'] == pytest.approx(value, abs=1e-9), name


def made_up_predictions(truth: dict, seed: int) -> list[dict]:
    """Shaken ground truth and detections of absent categories for a real annotation file."""
    rng = np.random.default_rng(seed)
    gt = GroundTruth.from_dict(truth)
    gt.require(masks=True)
    results = []
    for a in gt.annotations:
        mask = shaken(rng, coco_mask.decode(a['segmentation']))
        for category in (a['category_id'], int(rng.choice(list(gt.categories)))):
            if mask.any():
                entry = {'image_id': a['image_id'], 'category_id': category}
                score = round(float(rng.uniform(0.01, 1)), 3)
                results.append({**entry, 'score': score, 'segmentation': text_rle(mask)})
    return results


@pytest.mark.slow
@pytest.mark.parametrize('iou_type', ['bbox', 'segm', 'boundary'])
def test_equal_on_the_lvis_sample(tmp_path: Path, iou_type: str) -> None:
    folder = data_directory()
    for file in sorted((folder / 'lvis_v05_sample').glob('lvis_*.json')) if folder else []:
        truth = json.loads(file.read_text())
        results = made_up_predictions(truth, 0)
        for backend in ('pycocotools', 'vernier'):
            compare(tmp_path, truth, results, iou_type, backend)


def lvis_file() -> dict:
    return {
        'images': [
            {
                'id': 1,
                'height': 10,
                'width': 10,
                'neg_category_ids': [7, 9],
                'not_exhaustive_category_ids': [5, 8],
            }
        ],
        'categories': [
            {'id': 5, 'name': 'baby', 'synset': 'person.n.01', 'frequency': 'f'},
            {'id': 7, 'name': 'cow', 'synset': 'beef.n.01', 'frequency': 'c'},
            {'id': 8, 'name': 'acorn', 'synset': 'acorn.n.01', 'frequency': 'r'},
            {'id': 9, 'name': 'almond', 'synset': 'almond.n.02', 'frequency': 'r'},
        ],
        'annotations': [
            {'id': i, 'image_id': 1, 'category_id': c, 'area': 4, 'bbox': [i, i, 2, 2]}
            for i, c in enumerate((5, 8), 1)
        ],
    }


def test_cocofied_annotations_keep_coco_classes_under_their_ids() -> None:
    source = lvis_file()
    found = cocofy(source)
    assert [c['id'] for c in found['categories']][:12] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13]
    assert len(found['categories']) == 80 and found['categories'][-1]['name'] == 'toothbrush'
    assert [a['category_id'] for a in found['annotations']] == [1]
    assert found['images'][0]['neg_category_ids'] == [21]
    assert found['images'][0]['not_exhaustive_category_ids'] == [1]
    assert source == lvis_file()


def test_cocofied_scores_ignore_what_was_not_looked_for() -> None:
    gt = GroundTruth.from_dict(cocofy(lvis_file()), federated=True)
    hit = {'image_id': 1, 'category_id': 1, 'bbox': [1, 1, 2, 2], 'score': 0.5}
    rules = make_rules('coco-on-lvis')

    def ap(*extra: dict) -> float:
        dt = load_results([*extra, hit], gt)
        return evaluate(gt, dt, ['bbox'], rules).numbers['bbox_AP']

    assert ap() == pytest.approx(1)
    # a dog: nobody looked for dogs; a second person: persons were not all annotated
    assert ap({**hit, 'category_id': 18, 'score': 0.9}) == pytest.approx(1)
    assert ap({**hit, 'bbox': [6, 6, 2, 2], 'score': 0.9}) == pytest.approx(1)


IMAGE = {'id': 1, 'height': 3, 'width': 3}


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        (None, 'lvis.json holds a list: expected a COCO annotation file .*swapped'),
        ({'images': None}, '"images"'),
        ({'images': {'a': 1}}, '"images" is a dict, expected a list'),
        ({'images': [{'height': 3}]}, r'images\[0\] has no id'),
        ({'categories': []}, 'has the category 5, which is not listed'),
        ({'images': [{**IMAGE, 'neg_category_ids': 5}]}, 'the neg_category_ids 5: expected a list'),
        ({'images': [IMAGE]}, 'has no "neg_category_ids"'),
        ({'categories': [{'id': 5, 'frequency': 'f'}, {'id': 8, 'frequency': 'c'}]}, '"synset"'),
        ({'categories': [{'synset': 'ball.n.06'}]}, r'categories\[0\] has no id'),
        ({'categories': [7]}, r'categories\[0\] has no id'),
        ({'annotations': [{'image_id': 1}]}, r'annotations\[0\] must be an object with image_id'),
        ({'annotations': ['a']}, r'annotations\[0\] must be an object with image_id'),
        ({'annotations': [{'image_id': 1, 'category_id': [5]}]}, r'the category \[5\]'),
    ],
)
def test_files_are_checked_before_they_are_cocofied(change: dict | None, reason: str) -> None:
    source = [{'image_id': 1}] if change is None else {**lvis_file(), **change}
    if change == {'images': None}:
        del source['images']
    with pytest.raises(ValueError, match=rf'lvis.json.*{reason}' if change else reason):
        cocofy(source, 'lvis.json')


def test_other_files_cannot_be_cocofied_or_federated() -> None:
    truth, _ = make_scene(0)
    with pytest.raises(ValueError, match='this is no LVIS file'):
        cocofy(truth)
    with pytest.raises(ValueError, match='neg_category_ids'):
        GroundTruth.from_dict(truth, federated=True)
    with pytest.raises(ValueError, match='without its LVIS fields'):
        gt = GroundTruth.from_dict(truth)
        evaluate(gt, load_results([], gt), ['segm'], make_rules('lvis'))
