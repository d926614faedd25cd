"""The optional engine gives the reference engine's numbers."""

import sys

import pytest
from evaluation.scenes import make_scene

from mmrefine.evaluation import GroundTruth, evaluate, load_results, make_rules


@pytest.mark.parametrize('protocol', ['coco', 'lvis', 'lvis-fixed'])
@pytest.mark.parametrize('seed', range(5))
def test_vernier_equals_pycocotools(seed: int, protocol: str) -> None:
    truth, results = make_scene(seed + 20, images=20, lvis=protocol != 'coco')
    gt = GroundTruth.from_dict(truth, federated=protocol != 'coco')
    dt = load_results(results, gt)
    rules = make_rules(protocol, 7, {'s': (0, 300), 'l': (300, 1e10)}, dilation_ratio=0.03)
    ours = evaluate(gt, dt, rules=rules)
    fast = evaluate(gt, dt, rules=rules, backend='vernier')
    assert fast.numbers == pytest.approx(ours.numbers, abs=1e-12)
    for iou_type, values in ours.per_category.items():
        assert fast.per_category[iou_type] == pytest.approx(values, abs=1e-12)


@pytest.mark.parametrize('protocol', ['coco', 'lvis'])
def test_ids_may_be_text(protocol: str) -> None:
    truth, results = make_scene(20, images=20, lvis=protocol == 'lvis')
    rules, federated = make_rules(protocol), protocol == 'lvis'
    gt = GroundTruth.from_dict(truth, federated)
    expected = evaluate(gt, load_results(results, gt), rules=rules)
    names = {c['id']: f'{c["id"]:04d}' for c in truth['categories']}
    for image in truth['images']:
        image['id'] = f'{image["id"]:04d}.jpg'
        for key in ('neg_category_ids', 'not_exhaustive_category_ids') if federated else ():
            image[key] = [names[c] for c in image[key]]
    for category in truth['categories']:
        category['id'] = names[category['id']]
    for entry in [*truth['annotations'], *results]:
        entry['image_id'] = f'{entry["image_id"]:04d}.jpg'
        entry['category_id'] = names[entry['category_id']]
    gt = GroundTruth.from_dict(truth, federated)
    fast = evaluate(gt, load_results(results, gt), rules=rules, backend='vernier')
    assert fast.numbers == pytest.approx(expected.numbers, abs=1e-12)
    for iou_type, values in expected.per_category.items():
        named = {names[c]: value for c, value in values.items()}
        assert fast.per_category[iou_type] == pytest.approx(named, abs=1e-12)


@pytest.mark.parametrize('backend', ['pycocotools', 'vernier'])
def test_nothing_detected_and_nothing_to_detect(backend: str) -> None:
    truth, results = make_scene(2)
    gt = GroundTruth.from_dict(truth)
    numbers = evaluate(gt, load_results([], gt), backend=backend).numbers
    assert numbers['segm_AP'] == numbers['boundary_AP'] == numbers['bbox_AR100'] == 0
    bare = GroundTruth.from_dict({**truth, 'annotations': []})
    for dt in (load_results(results, bare), load_results([], bare)):
        numbers = evaluate(bare, dt, backend=backend).numbers
        assert set(numbers.values()) == {-1.0}


def test_a_missing_engine_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'vernier', None)
    truth, results = make_scene(0)
    gt = GroundTruth.from_dict(truth)
    with pytest.raises(ModuleNotFoundError, match='pip install vernier'):
        evaluate(gt, load_results(results, gt), ['segm'], backend='vernier')
    with pytest.raises(ValueError, match='backend must be one of'):
        evaluate(gt, load_results(results, gt), ['segm'], backend='fast')
