"""Thousands of random numbers against the reference tools; slow, with a seed from outside.

MMREFINE_SEED=7 MMREFINE_SCENES=200 pytest -m slow tests/evaluation/test_random_comparison.py -s
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation import references
from evaluation.random_scenes import random_clips, random_scene, without
from evaluation.town import make_city
from mmdet.registry import METRICS

from mmrefine.evaluation import GroundTruth, evaluate, load_results, make_rules
from mmrefine.evaluation.protocols import video_rules
from mmrefine.evaluation.score_file import score_file
from mmrefine.masks import RLEMasks
from mmrefine.results.cityscapes import write_cityscapes_image
from mmrefine.results.tracks import VideoTruth, load_tracks

SEED = int(os.environ.get('MMREFINE_SEED', 0))
SCENES = int(os.environ.get('MMREFINE_SCENES', 40))
# References and ours add the same numbers in another order; nothing else may differ.
TOLERANCE = 1e-9
KINDS = ('bbox', 'segm', 'boundary')

# Label, our numbers, the reference's.
Pairs = Iterator[tuple[str, dict, dict]]
Tools = tuple[Path, pytest.MonkeyPatch]


def scored(gt: GroundTruth, results: list, kind: str, rules: Any, **how: Any) -> dict:
    """Our numbers, and AP by category id."""
    found = evaluate(gt, load_results(results, gt), [kind], rules, **how)
    numbers = {name.removeprefix(f'{kind}_'): value for name, value in found.numbers.items()}
    return numbers | found.per_category[kind]


def only_crowds(truth: dict, flag: str) -> bool:
    return all(a.get(flag) for a in truth['annotations'])


def coco(rng: np.random.Generator, tools: Tools) -> Pairs:
    truth, results = random_scene(rng)
    areas = {name: sorted(map(float, rng.integers(0, 4000, 2))) for name in 'ab'}
    caps = sorted(map(int, rng.choice([1, 2, 3, 5, 10, 100], 3, replace=False)))
    thresholds = sorted(set(np.round(rng.uniform(0.05, 1, 4), 2).tolist()))
    ratio = float(rng.choice([0.005, 0.02, 0.1]))
    chosen = make_rules('coco', caps, areas, thresholds, ratio)
    for rules in (make_rules(), chosen):
        for kind in KINDS:
            given = without(results, 'segmentation' if kind == 'bbox' else 'bbox')
            numbers, categories = references.coco_scores(truth, given, kind, rules)
            for backend in ('pycocotools', 'vernier'):
                gt = GroundTruth.from_dict(truth)
                found = scored(gt, given, kind, rules, backend=backend)
                yield f'{kind}, {backend}', found, numbers | categories
    gt = GroundTruth.from_dict(truth)
    numbers, categories = references.coco_scores(truth, results, 'segm', chosen)
    found = scored(gt, results, 'segm', chosen, box_areas=True)
    yield 'segm, areas of boxes', found, numbers | categories


def lvis(rng: np.random.Generator, tools: Tools) -> Pairs:
    truth, results = random_scene(rng, lvis=True)
    cap = int(rng.choice([1, 3, 10, 300]))
    ignored = any(a.get('ignore') for a in truth['annotations'])
    if not results:
        return
    for protocol, most in (('lvis', cap), ('lvis-fixed', -1)):
        rules = make_rules(protocol, cap if protocol == 'lvis' else None)
        for kind in KINDS:
            given = without(results, 'segmentation' if kind == 'bbox' else 'bbox')
            numbers, categories = references.lvis_scores(tools[0], truth, given, kind, most)
            numbers[f'AR{cap if protocol == "lvis" else ""}'] = numbers.pop('AR')
            for backend in ('pycocotools', 'vernier')[: 1 if ignored else 2]:
                gt = GroundTruth.from_dict(truth, federated=True)
                found = scored(gt, given, kind, rules, backend=backend)
                found = {k: v for k, v in found.items() if not str(k).startswith('AR_')}
                yield f'{protocol}, {kind}, {backend}', found, numbers | categories


def youtube_vis(rng: np.random.Generator, tools: Tools) -> Pairs:
    truth, results = random_clips(rng)
    if not results:
        return
    caps = sorted(map(int, rng.choice([1, 2, 3, 10, 100], 3, replace=False)))
    rules = video_rules(caps)
    numbers, categories = references.video_scores(truth, results, rules)
    clips = VideoTruth(truth)
    found = evaluate(clips.strips, load_tracks(results, clips), ['segm'], rules)
    ours = {name.removeprefix('segm_'): value for name, value in found.numbers.items()}
    yield 'tracks', ours | found.per_category['segm'], numbers | categories


def recall(rng: np.random.Generator, tools: Tools) -> Pairs:
    truth, results = random_scene(rng)
    if only_crowds(truth, 'iscrowd'):
        return
    for annotation in truth['annotations']:
        annotation.pop('ignore', None)
    (tools[0] / 'truth.json').write_text(json.dumps(truth))
    numbers = sorted(map(int, rng.choice([1, 2, 3, 5, 10], 3, replace=False)))
    names = [c['name'] for c in truth['categories']]
    ids = [c['id'] for c in truth['categories']]
    for kind in ('bbox', 'segm'):
        metric = METRICS.build(
            dict(
                type='ProposalARMetric', ann_file=str(tools[0] / 'truth.json'), iou_types=kind,
                proposal_nums=numbers, size_num=numbers[-1], auc=False,
            )
        )  # fmt: skip
        metric.dataset_meta = dict(classes=names)
        for image in truth['images']:
            own = [r for r in results if r['image_id'] == image['id']]
            boxes = np.array([r['bbox'] for r in own], float).reshape(-1, 4)
            boxes[:, 2:] += boxes[:, :2]
            size = image['height'], image['width']
            given = dict(
                scores=np.array([r['score'] for r in own]), bboxes=boxes,
                labels=np.array([ids.index(r['category_id']) for r in own], int),
                masks=RLEMasks([r['segmentation'] for r in own], size),
            )  # fmt: skip
            sample = dict(img_id=image['id'], ori_shape=size, pred_instances=given)
            metric.process({}, [sample])
        given = without(results, 'segmentation' if kind == 'bbox' else 'bbox')
        expected = references.recall_scores(truth, given, kind, numbers)
        yield kind, metric.compute_metrics(metric.results), expected


def cityscapes(rng: np.random.Generator, tools: Tools) -> Pairs:
    folder = tools[0] / 'city'
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    data, results = make_city(folder, int(rng.integers(1 << 30)), images=3)
    levels = np.round(rng.random(4), 2)
    tree = folder / 'tree'
    tree.mkdir()
    for image in data['images']:
        own = [r for r in results if r['image_id'] == image['id'] and rng.random() < 0.9]
        write_cityscapes_image(
            tree, image['file_name'], [r['segmentation'] for r in own],
            [r['category_id'] for r in own], rng.choice(levels, len(own)).tolist(),
        )  # fmt: skip
    numbers, _ = score_file(
        folder / 'gtFine', tree, 'cityscapes', ['segm'], classwise=True, show_progress=False
    )
    yield 'segm', numbers, references.city_scores(folder, tree, tools[1])


FAMILIES: dict[str, tuple[Callable, float]] = {  # with the share of the scenes
    'coco': (coco, 1),
    'lvis': (lvis, 1),
    'youtube-vis': (youtube_vis, 2),
    'recall': (recall, 2),
    'cityscapes': (cityscapes, 0.5),
}


@pytest.mark.slow
@pytest.mark.parametrize('family', FAMILIES)
def test_no_number_differs(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    scenes, share = FAMILIES[family]
    compared, begin, wrong = 0, time.perf_counter(), []
    for number in range(int(SCENES * share)):
        rng = np.random.default_rng((SEED, number))
        for label, found, expected in scenes(rng, (tmp_path, monkeypatch)):
            assert found.keys() == expected.keys(), (number, label)
            compared += len(found)
            wrong += [
                f'scene {number}, {label}: {name} {found[name]} instead of {value}'
                for name, value in expected.items()
                if not abs(found[name] - value) <= TOLERANCE
            ]
    took = time.perf_counter() - begin
    with capsys.disabled():
        print(f'{family}, seed {SEED}: {compared} numbers, {60 * compared / took:.0f} a minute')
    assert compared > 0
    assert wrong == []
