"""Intervals of AP: matched once, weighted draws; the engine scores the copies for comparison."""

import copy
import json
from pathlib import Path

import leaderboard
import numpy as np
import pytest
from evaluation.scenes import make_scene

from mmrefine.evaluation import GroundTruth, evaluate, load_results, make_rules
from mmrefine.evaluation.bootstrap import (
    average_precisions,
    draw_images,
    interval,
    match_images,
    mean_of_trainings,
)

KINDS = ('bbox', 'segm', 'boundary')


def repeated(truth: dict, results: list[dict], weights: list[int]) -> tuple[dict, list[dict]]:
    """The set in which every image occurs as often as its weight says."""
    new: dict = {'images': [], 'annotations': [], 'categories': truth['categories']}
    found = []
    for image, times in zip(truth['images'], weights):
        for number in range(times):
            name = 1000 * number + image['id']
            new['images'].append({**image, 'id': name})
            for kind, target in ((truth['annotations'], new['annotations']), (results, found)):
                entries = copy.deepcopy([e for e in kind if e['image_id'] == image['id']])
                target += [{**entry, 'image_id': name} for entry in entries]
    for i, annotation in enumerate(new['annotations']):
        annotation['id'] = i + 1
    return new, found


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('cap', [100, 2])
def test_a_weighted_image_is_as_many_images(kind: str, cap: int) -> None:
    truth, results = make_scene(4)
    scores = np.random.default_rng(0).permutation(len(results)) / len(results)
    results = [{**r, 'score': score} for r, score in zip(results, scores.tolist())]  # no ties
    gt, rules = GroundTruth.from_dict(truth), make_rules('coco', cap)
    matches = match_images(gt, load_results(results, gt), kind, rules)
    weights = np.concatenate([np.ones((1, 12), np.int64), draw_images(12, 5, seed=3)])
    assert (weights == 0).any() and (weights > 1).any()
    found = average_precisions(matches, weights)
    for row, value in zip(weights.tolist(), found):
        other, entries = repeated(truth, results, row)
        everything = GroundTruth.from_dict(other)
        dt = load_results(entries, everything)
        expected = evaluate(everything, dt, [kind], rules).numbers[f'{kind}_AP']
        assert value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize('kind', KINDS)
def test_images_as_they_are_give_the_ap_of_the_engine_also_with_ties(kind: str) -> None:
    truth, results = make_scene(4)
    results = [{**r, 'score': round(r['score'], 1)} for r in results]
    gt = GroundTruth.from_dict(truth)
    dt = load_results(results, gt)
    found = average_precisions(match_images(gt, dt, kind, make_rules()), np.ones((1, 12), int))
    expected = evaluate(gt, dt, [kind]).numbers[f'{kind}_AP']
    assert found[0] == pytest.approx(expected, abs=1e-12)


def test_draws_without_objects_say_so() -> None:
    truth, results = make_scene(4, images=3)
    truth['annotations'] = [a for a in truth['annotations'] if a['image_id'] == 5]
    gt = GroundTruth.from_dict(truth)
    matches = match_images(gt, load_results(results, gt), 'segm', make_rules())
    values = average_precisions(matches, np.array([[0, 2, 1], [3, 0, 0]]))
    assert values[0] == -1 and values[1] >= 0


def test_draws_are_samples_with_replacement() -> None:
    weights = draw_images(50, 4000)
    assert (weights.sum(1) == 50).all()
    assert weights.mean() == 1 and weights.var() == pytest.approx(1 - 1 / 50, rel=0.05)
    assert interval(np.arange(1001.0)) == pytest.approx((25, 975))


def write(folder: Path, **content: object) -> dict[str, str]:
    paths = {name: folder / f'{name}.json' for name in content}
    for name, path in paths.items():
        path.write_text(json.dumps(content[name]))
    return {name: str(path) for name, path in paths.items()}


def test_the_table_has_every_file_and_its_gain_over_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    truth, results = make_scene(4, images=30)
    worse = [{**r, 'score': 1 - r['score']} for r in results]
    files = write(tmp_path, gt=truth, ours=worse, theirs=results)
    out = tmp_path / 'out.json'
    args = [files['ours'], f'B={files["theirs"]}', '--gt', files['gt'], '--draws', '200']
    assert leaderboard.main([*args, '--json', str(out)]) == 0
    found = json.loads(out.read_text())
    gt = GroundTruth.from_dict(truth)
    for name, entries in (('ours', worse), ('B', results)):
        numbers = evaluate(gt, load_results(entries, gt), ['segm', 'boundary']).numbers
        for kind in ('segm', 'boundary'):
            assert found[name][kind]['ap'] == pytest.approx(numbers[f'{kind}_AP'])
            low, high = found[name][kind]['interval']
            assert low < found[name][kind]['ap'] < high
    gain = found['B']['segm']
    assert gain['above'] == pytest.approx(gain['ap'] - found['ours']['segm']['ap'])
    # the same images are drawn for both: the difference scatters less than either
    spread = gain['above_interval'][1] - gain['above_interval'][0]
    assert spread < gain['interval'][1] - gain['interval'][0]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].count('|') == 6 and len(lines) == 4
    assert lines[2].startswith('| ours | ') and lines[3].startswith('| B | ')


def test_three_trainings_have_the_interval_of_students_t() -> None:
    # images that do not differ: the limits of two degrees of freedom are 4.303 standard errors off
    values = np.repeat([[0.2], [0.3], [0.4]], 40001, axis=1)
    mean = mean_of_trainings(values, [0, 1])
    assert mean[0] == pytest.approx(0.3)
    error = 0.1 / np.sqrt(3)
    assert np.subtract(interval(mean[1:]), 0.3) / error == pytest.approx([-4.303, 4.303], abs=0.2)
    assert mean_of_trainings(values[:1], [0, 1]) == pytest.approx(values[0])


def test_draws_without_objects_stay_without() -> None:
    values = np.array([[0.2, -1.0, 0.2], [0.4, -1.0, 0.5]])
    assert mean_of_trainings(values, [0, 1])[1] == -1


def test_files_of_one_name_are_trainings_of_one_model(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    truth, results = make_scene(4, images=30)
    worse = [{**r, 'score': 1 - r['score']} for r in results]
    files = write(tmp_path, gt=truth, one=results, two=worse)
    out = tmp_path / 'out.json'
    args = [f'A={files["one"]}', f'A={files["two"]}', files['one'], '--gt', files['gt']]
    assert leaderboard.main([*args, '--draws', '300', '--json', str(out)]) == 0
    found = json.loads(out.read_text())
    gt = GroundTruth.from_dict(truth)
    each = [
        evaluate(gt, load_results(r, gt), ['segm']).numbers['segm_AP'] for r in (results, worse)
    ]
    assert list(found) == ['A', 'one']
    assert found['A']['segm']['ap'] == pytest.approx(np.mean(each))
    assert found['one']['segm']['above'] == pytest.approx(each[0] - np.mean(each))
    # the trainings differ by more than the images do
    low, high = found['A']['segm']['interval']
    assert low < min(each) < max(each) < high
    assert leaderboard.main([files['one'], files['one'], '--gt', files['gt']]) == 1
    assert "two result files are called 'one'" in capsys.readouterr().err


def test_one_category_counts_as_if_the_file_had_no_other(tmp_path: Path) -> None:
    truth, results = make_scene(4)
    files = write(tmp_path, gt=truth, all=results)
    out = tmp_path / 'out.json'
    args = [files['all'], '--gt', files['gt'], '--classes', 'bee', '--draws', '20']
    assert leaderboard.main([*args, '--json', str(out)]) == 0
    gt = GroundTruth.from_dict(truth)
    per_class = evaluate(gt, load_results(results, gt), ['segm']).per_category['segm']
    assert json.loads(out.read_text())['all']['segm']['ap'] == pytest.approx(per_class[5])


@pytest.mark.parametrize('size', ['s', 'm'])
def test_one_size_counts_as_in_the_table_by_size(tmp_path: Path, size: str) -> None:
    truth, results = make_scene(4)
    files = write(tmp_path, gt=truth, all=results)
    out = tmp_path / 'out.json'
    args = [files['all'], '--gt', files['gt'], '--size', size, '--draws', '20', '--iou-type']
    gt = GroundTruth.from_dict(truth)
    numbers = evaluate(gt, load_results(results, gt), KINDS).numbers
    assert leaderboard.main([*args, *KINDS, '--json', str(out)]) == 0
    for kind in KINDS:
        found = json.loads(out.read_text())['all'][kind]['ap']
        assert found == pytest.approx(numbers[f'{kind}_AP_{size}'])


def test_results_of_other_images_can_be_dropped(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    truth, results = make_scene(0)
    files = write(tmp_path, gt=truth, all=[*results, {**results[0], 'image_id': 10**6}])
    args = [files['all'], '--gt', files['gt'], '--draws', '2', '--iou-type', 'segm']
    assert leaderboard.main(args) == 1
    assert '--unknown drop' in capsys.readouterr().err
    assert leaderboard.main([*args, '--unknown', 'drop']) == 0


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--draws', '0'], '--draws must be at least 1'),
        (['--classes', 'bee', 'wasp'], 'not list these classes: wasp (it lists'),
        (['--size', 'l'], 'no annotation is of these --classes and --size'),
    ],
)
def test_what_cannot_be_scored_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture, options: list[str], message: str
) -> None:
    truth, results = make_scene(4)
    files = write(tmp_path, gt=truth, all=results)
    assert leaderboard.main([files['all'], '--gt', files['gt'], *options]) == 1
    assert message in capsys.readouterr().err
