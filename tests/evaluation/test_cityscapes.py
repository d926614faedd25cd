"""Cityscapes scores: the official code's numbers, and the boundary rule put into them."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from evaluation.references import city_scores
from evaluation.scenes import reference_band, shaken
from evaluation.town import H, W, make_city
from locations import ROOT
from mmdet.registry import METRICS

from mmrefine.evaluation.boundary import band_width
from mmrefine.evaluation.cityscapes import score_cityscapes
from mmrefine.evaluation.score_file import score_file
from mmrefine.results.cityscapes import CITYSCAPES_IDS, cityscapes_images

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


def score_list(folder: Path, gt: str = 'annotations/val.json', **options: object) -> dict:
    """Numbers of the result list of a city."""
    source = folder / 'results.json'
    return score_file(folder / gt, source, 'cityscapes', show_progress=False, **options)[0]


def test_the_command_scores_without_a_registry(tmp_path: Path) -> None:
    make_city(tmp_path)
    options = ['--gt', str(tmp_path / 'annotations' / 'val.json'), '--format', 'cityscapes']
    options += ['--results', str(tmp_path / 'results.json'), '--json', str(tmp_path / 'out.json')]
    tool = ROOT / 'tools' / 'evaluate.py'
    # a process of its own: here the tests have imported the official code with its names
    ended = subprocess.run([sys.executable, tool, *options], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    expected = {name: value for name, value in score_list(tmp_path).items() if '/' not in name}
    assert json.loads((tmp_path / 'out.json').read_text()) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize('dense', [True, False])
def test_metric_equals_the_official_code(
    tmp_path: Path, dense: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, results = make_city(tmp_path)
    metric = build(tmp_path)
    feed(metric, tmp_path, data, results, dense)
    found = metric.evaluate(len(data['images']))
    expected = city_scores(tmp_path, tmp_path / 'out' / 'results', monkeypatch)
    assert found['cityscapes/mAP'] == pytest.approx(expected['segm_AP'], abs=1e-12)
    assert found['cityscapes/AP@50'] == pytest.approx(expected['segm_AP50'], abs=1e-12)
    car = expected['segm_AP/car']
    assert found['cityscapes/segm_AP/car'] == pytest.approx(car, abs=1e-12)
    assert found['cityscapes/segm_AP/bus'] == -1
    assert 0 < found['cityscapes/boundary_mAP'] < found['cityscapes/mAP']
    assert not found.keys() & {f'cityscapes/{kind}_AP' for kind in ('segm', 'boundary')}


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


def test_a_class_whose_predictions_are_all_excused(tmp_path: Path) -> None:
    """A car that is not found, a prediction in a group of cars; a person is found."""
    tree = tmp_path / 'results'
    tree.mkdir()
    truth = np.full((H, W), 7, np.uint16)
    truth[:40, :60], truth[80:120, :60], truth[80:120, 150:] = 26001, 26, 24001
    truth_path = tmp_path / 'town_000000_000019_gtFine_instanceIds.png'
    cv2.imwrite(str(truth_path), truth)
    for name, value in (('car', 26), ('person', 24001)):
        cv2.imwrite(str(tree / f'{name}.png'), (truth == value) * np.uint8(255))
    text = tree / 'town_000000_000019_leftImg8bit_pred.txt'
    text.write_text('car.png 26 0.9\nperson.png 24 0.8\n')
    found = score_cityscapes([(text, truth_path)])
    for kind in ('segm', 'boundary'):
        assert found[f'{kind}_AP/car'] == 0 and found[f'{kind}_AP/person'] == 1
        assert found[f'{kind}_AP'] == found[f'{kind}_AP50'] == 0.5
        assert found[f'{kind}_AP/bus'] == -1


def test_small_instances_keep_their_pixels(tmp_path: Path) -> None:
    """A car of 81 pixels excuses a prediction by its mask, also where boundaries are scored."""
    tree = tmp_path / 'results'
    tree.mkdir()
    truth = np.full((30, 40), 7, np.uint16)  # the band is one pixel wide
    truth[2:11, 2:11], truth[15:27, 20:38] = 26001, 26002
    truth_path = tmp_path / 'town_000000_000019_gtFine_instanceIds.png'
    cv2.imwrite(str(truth_path), truth)
    moved = np.zeros((30, 40), np.uint8)
    moved[2:11, 3:12] = 255
    cv2.imwrite(str(tree / 'small.png'), moved)
    cv2.imwrite(str(tree / 'large.png'), (truth == 26002) * np.uint8(255))
    text = tree / 'town_000000_000019_leftImg8bit_pred.txt'
    text.write_text('small.png 26 0.9\nlarge.png 26 0.8\n')
    found = score_cityscapes([(text, truth_path)])
    # 8 of its 9 columns are excused, which is not enough for the thresholds 0.9 and 0.95.
    assert 0.8 < found['boundary_AP/car'] == found['segm_AP/car'] < 1


def test_an_instance_of_exactly_a_hundred_pixels_counts(tmp_path: Path) -> None:
    """Moved by a column, 10 x 10 pixels overlap by 90 / 110; of its outline, less than a half."""
    tree = tmp_path / 'results'
    tree.mkdir()
    truth = np.full((30, 40), 7, np.uint16)
    truth[2:12, 2:12] = 26001
    truth_path = tmp_path / 'town_000000_000019_gtFine_instanceIds.png'
    cv2.imwrite(str(truth_path), truth)
    moved = np.zeros((30, 40), np.uint8)
    moved[2:12, 3:13] = 255
    cv2.imwrite(str(tree / 'car.png'), moved)
    text = tree / 'town_000000_000019_leftImg8bit_pred.txt'
    text.write_text('car.png 26 0.9\n')
    found = score_cityscapes([(text, truth_path)])
    assert found['segm_AP/car'] == pytest.approx(0.7)  # at 0.5, 0.55, ..., 0.8
    assert found['boundary_AP/car'] == 0


def test_groups_excuse_by_their_pixels_also_where_boundaries_are_scored(tmp_path: Path) -> None:
    """The better prediction is a part of a group of cars; the other one is right."""
    tree = tmp_path / 'results'
    tree.mkdir()
    truth = np.full((60, 80), 7, np.uint16)
    truth[2:22, 2:22], truth[30:50, 30:60] = 26, 26001
    truth_path = tmp_path / 'town_000000_000019_gtFine_instanceIds.png'
    cv2.imwrite(str(truth_path), truth)
    part = np.zeros((60, 80), np.uint8)
    part[2:22, 2:20] = 255
    cv2.imwrite(str(tree / 'group.png'), part)
    cv2.imwrite(str(tree / 'car.png'), (truth == 26001) * np.uint8(255))
    text = tree / 'town_000000_000019_leftImg8bit_pred.txt'
    text.write_text('group.png 26 0.9\ncar.png 26 0.8\n')
    found = score_cityscapes([(text, truth_path)])
    assert found['boundary_AP/car'] == found['segm_AP/car'] == 1


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
    names = {'segm_AP': 'mAP', 'segm_AP50': 'AP@50'}
    names |= {'boundary_AP': 'boundary_mAP', 'boundary_AP50': 'boundary_AP@50'}
    for gt, source in roads:
        numbers, _ = score_file(gt, source, 'cityscapes', show_progress=False)
        for name, value in numbers.items():
            stock = names.get(name, name)
            assert value == pytest.approx(expected[f'cityscapes/{stock}'], abs=1e-12)


def test_the_split_is_the_one_the_json_names(tmp_path: Path) -> None:
    make_city(tmp_path)
    expected = score_list(tmp_path)
    for path in (tmp_path / 'gtFine').rglob('*.png'):
        twin = Path(str(path).replace('/val/', '/train/'))
        twin.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(twin), np.full((H, W), 7, np.uint16))
    assert score_list(tmp_path) == expected
    (tmp_path / 'annotations' / 'val.json').rename(tmp_path / 'annotations' / 'all.json')
    with pytest.raises(ValueError, match=r'several splits .* \(train, val\)'):
        score_list(tmp_path, 'annotations/all.json')


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
    assert metric.evaluate(5)['cityscapes/mAP'] == 0
    for path in (tmp_path / 'gtFine').rglob('*.png'):
        cv2.imwrite(str(path), np.full((H, W), 7, np.uint16))
    metric = build(tmp_path)
    feed(metric, tmp_path, data, [], dense=False)
    assert set(metric.evaluate(5).values()) == {-1.0}


@pytest.mark.parametrize(
    ('options', 'reason'),
    [
        ({'metric': 'sgm'}, r"'segm', 'boundary'; got \['sgm'\]"),
        ({'metric': 'sgm', 'format_only': True}, r"'segm', 'boundary'; got \['sgm'\]"),
        ({'metric': []}, r"'segm', 'boundary'; got \[\]"),
        ({'dilation_ratio': 0}, 'dilation_ratio must be positive'),
        ({'seg_prefix': 'nowhere'}, 'seg_prefix: there is no folder nowhere'),
    ],
)
def test_wrong_options_are_refused_before_the_first_image(
    tmp_path: Path, options: dict, reason: str
) -> None:
    make_city(tmp_path)
    with pytest.raises(ValueError, match=reason):
        build(tmp_path, **options)
    build(tmp_path, format_only=True, seg_prefix='nowhere')


def test_former_results_alone_are_removed(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr('mmrefine.evaluation.cityscapes_metric.log_warning', said.append)
    files = list(tree.iterdir())
    for name in ('notes.txt', 'a_0_0_leftImg8bit.png'):
        (tree / name).touch()
        with pytest.raises(ValueError, match=f'results is emptied .* holds {name}, which is no'):
            build(tree.parent.parent)
        (tree / name).unlink()
    assert sorted(tree.iterdir()) == sorted(files) and not said
    build(tree.parent.parent)
    assert said == [f'{len(files)} files of former results in {tree} were removed']
    assert not list(tree.iterdir())


def test_predictions_without_masks_are_refused(tmp_path: Path) -> None:
    make_city(tmp_path)
    pred = {'bboxes': torch.zeros(1, 4), 'scores': torch.ones(1), 'labels': torch.zeros(1)}
    sample = {'img_path': 'a_0_0_leftImg8bit.png', 'ori_shape': (H, W), 'pred_instances': pred}
    with pytest.raises(ValueError, match=r'a_0_0_leftImg8bit.png: the predictions have no masks'):
        build(tmp_path).process({}, [sample])


def test_images_that_were_not_predicted_are_an_error(tmp_path: Path) -> None:
    data, results = make_city(tmp_path)
    metric = build(tmp_path)
    feed(metric, tmp_path, {**data, 'images': data['images'][1:]}, results, dense=False)
    with pytest.raises(ValueError, match='1 images were not predicted, such as .*; 5 images of'):
        metric.evaluate(4)


def test_images_without_result_or_truth_are_named(tmp_path: Path) -> None:
    data, results = make_city(tmp_path)
    (tmp_path / 'tree').mkdir()
    with pytest.raises(ValueError, match=r'5 of 5 images have no \*_pred.txt'):
        score_file(tmp_path / 'gtFine', tmp_path / 'tree', 'cityscapes')
    with pytest.raises(ValueError, match='refers to images by number'):
        score_list(tmp_path, 'gtFine')
    next((tmp_path / 'gtFine').rglob('*.png')).unlink()
    metric = build(tmp_path)
    feed(metric, tmp_path, data, results, dense=False)
    with pytest.raises(ValueError, match='there is no .*instanceIds.png'):
        metric.evaluate(5)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A city and the tree of its predictions."""
    data, results = make_city(tmp_path)
    metric = build(tmp_path)
    feed(metric, tmp_path, data, results, dense=False)
    return tmp_path / 'out' / 'results'


def score_tree(tree: Path, **options: object) -> dict[str, float]:
    gt = tree.parent.parent / 'gtFine'
    return score_file(gt, tree, 'cityscapes', show_progress=False, classwise=True, **options)[0]


def first_text(tree: Path) -> Path:
    return next(p for p in sorted(tree.glob('*.txt')) if p.read_text())


def change_line(tree: Path, place: int, value: str) -> None:
    text = first_text(tree)
    first, *others = text.read_text().splitlines()
    parts = first.split(' ')
    parts[place] = value
    text.write_text('\n'.join([' '.join(parts), *others]) + '\n')


def listed(tree: Path) -> Path:
    return tree / first_text(tree).read_text().split(' ')[0]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    'nan': (lambda t: change_line(t, 2, 'nan'), "line 1: score 'nan' is no finite number"),
    'word': (lambda t: change_line(t, 2, 'high'), "score 'high' is no finite number"),
    'label': (
        lambda t: change_line(t, 1, '99'),
        r"label id '99' is none of \[24, .*--unknown drop",
    ),
    'road': (lambda t: change_line(t, 1, '7'), "label id '7' is none of"),
    'name': (lambda t: change_line(t, 1, 'car'), "label id 'car' is no whole number"),
    'fields': (lambda t: change_line(t, 1, '26 26'), 'with single spaces'),
    'outside': (lambda t: change_line(t, 0, '../x.png'), 'must lie below the text file'),
    'missing': (lambda t: change_line(t, 0, 'x.png'), 'x.png does not exist'),
    'twice': (lambda t: first_text(t).write_text(first_text(t).read_text() * 2), 'listed twice'),
    'broken': (lambda t: listed(t).write_bytes(b'png'), 'is no image'),
    'cut': (lambda t: cut(listed(t)), 'a PNG it lists, or .* cannot be read'),
    'size': (lambda t: cv2.imwrite(str(listed(t)), np.ones((5, 5), np.uint8)), r'size \(5, 5\)'),
    'foreign': (
        lambda t: (t / 'town_000099_000019_leftImg8bit_pred.txt').write_text(''),
        r'1 \*_pred.txt .* belong to no image of .*gtFine.*town_000099_.*--unknown drop',
    ),
    'other': (lambda t: (t / 'notes_pred.txt').write_text(''), 'belong to no image'),
    'double': (
        lambda t: (t / f'{first_text(t).name.replace("_leftImg8bit", "")}').write_text(''),
        'has two text files',
    ),
}


@pytest.mark.parametrize('name', DAMAGES)
def test_a_tree_is_checked_before_it_is_scored(tree: Path, name: str) -> None:
    damage, reason = DAMAGES[name]
    damage(tree)
    with pytest.raises(ValueError, match=reason):
        score_tree(tree)


def test_what_the_official_code_scores_is_no_problem(tree: Path) -> None:
    """Scores of any size, label ids as floats, coloured masks, empty masks."""
    expected = score_tree(tree)
    for text in tree.glob('*.txt'):
        rows = [line.split(' ') for line in text.read_text().splitlines()]
        lines = [f'{png} {label}.0 {5 * float(score) - 7}' for png, label, score in rows]
        cv2.imwrite(str(tree / f'{text.stem}.png'), np.zeros((H, W), np.uint8))
        text.write_text('\n'.join([*lines, f'{text.stem}.png 26 9']) + '\n')
    grey = cv2.imread(str(listed(tree)), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(listed(tree)), np.repeat(grey[..., None], 3, 2))
    assert score_tree(tree) == expected


def test_unknown_predictions_can_be_dropped(tree: Path) -> None:
    expected = score_tree(tree)
    copied = listed(tree).read_bytes()
    for i, label in enumerate((99, 7, 29, -1)):
        (tree / f'{i}.png').write_bytes(copied)
        with open(first_text(tree), 'a') as file:
            file.write(f'{i}.png {label} 0.99\n')
    (tree / 'town_000099_000019_leftImg8bit_pred.txt').write_text('0.png 26 nan\n')
    (tree / 'z_pred.txt').write_text('hello')
    with pytest.raises(ValueError, match='2 .*belong to no image'):
        score_tree(tree)
    assert score_tree(tree, unknown='drop') == expected
    change_line(tree, 2, 'nan')
    with pytest.raises(ValueError, match='is no finite number'):
        score_tree(tree, unknown='drop')


def test_unknown_entries_of_a_list_can_be_dropped(tmp_path: Path) -> None:
    _, results = make_city(tmp_path)
    expected = score_list(tmp_path)
    more = [{**results[0], 'image_id': 99}, {**results[0], 'category_id': 99}]
    (tmp_path / 'results.json').write_text(json.dumps([*more, *results]))
    with pytest.raises(ValueError, match=r'results\[0\] .*unknown image_id 99, .*--unknown drop'):
        score_list(tmp_path)
    assert score_list(tmp_path, unknown='drop') == expected


@pytest.mark.parametrize(
    ('options', 'named'),
    [
        ({'max_dets': 5}, r'--max-dets \(max_dets\)'),
        ({'areas': {'s': (0, 9)}}, r'--areas \(areas\)'),
        ({'box_areas': True, 'backend': 'vernier'}, '--backend .*, --box-areas '),
        ({'dilation_ratio': -1}, 'dilation_ratio must be positive'),
        ({'unknown': 'keep'}, "unknown must be 'error' or 'drop'"),
    ],
)
def test_options_without_use_are_refused(tmp_path: Path, options: dict, named: str) -> None:
    make_city(tmp_path)
    with pytest.raises(ValueError, match=named):
        score_list(tmp_path, **options)


def test_images_may_be_named_by_address(tmp_path: Path) -> None:
    data, _ = make_city(tmp_path)
    expected, gt = score_list(tmp_path), tmp_path / 'annotations' / 'val.json'
    for image in data['images']:
        image['coco_url'] = f'http://images/{image.pop("file_name")}'
    gt.write_text(json.dumps(data))
    assert score_list(tmp_path) == expected
    assert set(cityscapes_images(gt)) == set(cityscapes_images(tmp_path / 'gtFine'))
    del data['images'][2]['coco_url']
    gt.write_text(json.dumps(data))
    with pytest.raises(ValueError, match='image 3 has neither file_name nor coco_url'):
        score_list(tmp_path)
