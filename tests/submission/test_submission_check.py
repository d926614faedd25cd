"""Bad submissions are refused with the entry and the reason; good ones pass."""

import json
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from evaluation.clips import make_clips
from evaluation.scenes import make_scene
from evaluation.town import make_city

from mmrefine.evaluation import GroundTruth
from mmrefine.results.cityscapes import check_cityscapes, cityscapes_images
from mmrefine.results.tracks import VideoTruth
from mmrefine.submission.check import (
    check_list,
    check_submission,
    check_tracks,
    find_submission,
)
from mmrefine.submission.make import MakeOptions, make_submission


def problems_of(tmp_path: Path, results: object, format: str = 'coco', **options: int) -> list[str]:
    file = tmp_path / 'results.json'
    file.write_text(json.dumps(results))
    return check_list(file, GroundTruth.from_dict(make_scene(0)[0]), format, **options)


@pytest.mark.parametrize('format', ['coco', 'lvis'])
def test_good_results_pass(tmp_path: Path, format: str) -> None:
    results = make_scene(0)[1]
    assert problems_of(tmp_path, results, format) == []
    boxes = [{**r, 'bbox': [1, 2, 3, 4]} for r in results]
    assert problems_of(tmp_path, boxes, format) == []
    assert problems_of(tmp_path, [], format) == []


@pytest.mark.parametrize('format', ['coco', 'lvis'])
@pytest.mark.parametrize('box', [None, []])
def test_empty_boxes_beside_masks_are_refused(tmp_path: Path, format: str, box: object) -> None:
    results = [{**result, 'bbox': box} for result in make_scene(0)[1]]
    problems = problems_of(tmp_path, results, format)
    assert len(problems) == len(results) and all('bbox' in problem for problem in problems)


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        ({'image_id': 6}, 'unknown image_id 6'),
        ({'image_id': None}, 'unknown image_id None'),
        ({'category_id': 1}, 'unknown category_id 1'),
        ({'score': 0}, 'score 0, which is not in (0, 1]'),
        ({'score': 1.01}, 'score 1.01'),
        ({'score': float('nan')}, 'score nan'),
        ({'score': True}, 'score True'),
        ({'score': '0.5'}, "score '0.5'"),
        ({'segmentation': {'size': [9, 9], 'counts': '9'}}, 'size [9, 9], the image is'),
        ({'segmentation': [[1, 1, 5, 1, 5, 5]]}, 'must be an RLE object'),
        ({'segmentation': None}, 'neither segmentation nor bbox'),
        ({'bbox': [1, 1, -1, 2]}, 'negative width'),
    ],
)
def test_the_entry_and_the_reason_are_named(tmp_path: Path, change: dict, reason: str) -> None:
    results = make_scene(0)[1]
    results[3] = {**results[3], **change}
    problems = problems_of(tmp_path, results)
    assert any(p.startswith('entry 3 ') and reason in p for p in problems), problems
    assert all(p.startswith(('entry 3 ', 'only ')) for p in problems)


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    results = make_scene(0)[1]
    size = results[2]['segmentation']['size']
    results[2] = {**results[2], 'segmentation': {'size': size, 'counts': '00@@'}}
    results[4] = dict(results[1])
    results.append([results[0]])
    results.append({'image_id': 5})
    problems = '\n'.join(problems_of(tmp_path, results))
    last = len(results) - 1
    for expected in (
        'entry 2 (image 5): the RLE cannot be decoded',
        'entry 4 (image 5) repeats entry 1',
        f'entry {last - 1} is a list, expected an object: wrong nesting',
        f'entry {last} has no "category_id"',
    ):
        assert expected in problems


def test_too_many_an_image(tmp_path: Path) -> None:
    results = [{**make_scene(0)[1][0], 'score': (i + 1) / 400} for i in range(301)]
    assert problems_of(tmp_path, results) == ['image 5 has 301 entries, at most 100 are allowed']
    assert problems_of(tmp_path, results, 'lvis') == [
        'image 5 has 301 entries, at most 300 are allowed'
    ]
    assert problems_of(tmp_path, results[:300], 'lvis') == []
    assert problems_of(tmp_path, results, max_per_image=301) == []


@pytest.mark.parametrize('results', [{'annotations': []}, 3, [[[]]]])
def test_other_nestings(tmp_path: Path, results: object) -> None:
    (problem,) = problems_of(tmp_path, results)
    assert 'expected a json list' in problem or 'wrong nesting' in problem


def test_files_cut_off_and_archives(tmp_path: Path) -> None:
    gt = GroundTruth.from_dict(make_scene(0)[0])
    text = json.dumps(make_scene(0)[1])
    file = tmp_path / 'r.json'
    file.write_text(text[: len(text) // 2])
    assert 'ends in the middle of entry' in check_list(file, gt)[-1]
    assert 'does not exist' in check_list(tmp_path / 'none.json', gt)[0]
    for inside, fine in (
        (['r.json'], True),
        (['deep/r.json'], False),
        (['other.json'], False),
        (['r.json', 'readme.txt'], False),
        (['readme.txt', 'r.json'], False),
    ):
        with zipfile.ZipFile(tmp_path / 'r.zip', 'w') as archive:
            for name in inside:
                archive.writestr(name, text)
        problems = check_list(tmp_path / 'r.zip', gt)
        assert (problems == []) == fine
        assert fine or 'must hold r.json and nothing else' in problems[0]
    data = (tmp_path / 'r.zip').read_bytes()
    (tmp_path / 'r.zip').write_bytes(data[: len(data) // 2])
    assert 'not a zip archive' in check_list(tmp_path / 'r.zip', gt)[0]


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        ({'video_id': 99}, 'unknown video_id 99'),
        ({'category_id': 0}, 'unknown category_id 0'),
        ({'score': 2}, 'score 2'),
        ({'segmentations': [None] * 4}, 'no mask in any frame'),
        ({'segmentations': [None] * 3}, 'a list of 4 masks'),
        ({'segmentations': [{'size': [1, 1], 'counts': '1'}] * 4}, 'frame 0: the RLE has the size'),
    ],
)
def test_tracks(tmp_path: Path, change: dict, reason: str) -> None:
    truth, results = make_clips(0)
    file = tmp_path / 'results.json'
    file.write_text(json.dumps(results))
    assert check_tracks(file, VideoTruth(truth)) == []
    results[2] = {**results[2], **change}
    file.write_text(json.dumps([*results, dict(results[0])]))
    problems = check_tracks(file, VideoTruth(truth))
    assert any('entry 2 (' in p and reason in p for p in problems), problems
    assert any('repeats entry 0' in p for p in problems)


@pytest.fixture
def city(tmp_path: Path) -> Path:
    make_city(tmp_path, images=3)
    options = MakeOptions(
        'cityscapes',
        tmp_path / 'annotations' / 'val.json',
        tmp_path / 'tree',
        results=tmp_path / 'results.json',
    )
    make_submission(options)
    return tmp_path


def first_text(tree: Path) -> Path:
    return next(p for p in sorted(tree.glob('*.txt')) if p.read_text())


def change_line(tree: Path, place: int, value: str) -> None:
    text = first_text(tree)
    lines = text.read_text().splitlines()
    parts = lines[0].split(' ')
    parts[place] = value
    text.write_text('\n'.join([' '.join(parts), *lines[1:]]) + '\n')


def listed(tree: Path) -> Path:
    return tree / first_text(tree).read_text().split(' ')[0]


DAMAGES = {
    'label': (lambda t: change_line(t, 1, '7'), "label id '7' is none of"),
    'score': (lambda t: change_line(t, 2, 'nan'), "score 'nan' is not in (0, 1]"),
    'range': (lambda t: change_line(t, 2, '1.5'), "score '1.5'"),
    'outside': (lambda t: change_line(t, 0, '../x.png'), 'must lie below the text file'),
    'missing': (lambda t: change_line(t, 0, 'x.png'), 'x.png does not exist'),
    'fields': (lambda t: change_line(t, 1, '26 26'), 'with single spaces'),
    'size': (
        lambda t: cv2.imwrite(str(listed(t)), np.ones((5, 5), np.uint8)),
        'has the size (5, 5)',
    ),
    'colour': (lambda t: cv2.imwrite(str(listed(t)), np.ones((160, 240, 3), np.uint8)), 'channels'),
    'empty': (lambda t: cv2.imwrite(str(listed(t)), np.zeros((160, 240), np.uint8)), 'is empty'),
    'broken': (lambda t: listed(t).write_bytes(b'png'), 'is no image'),
    'twice': (
        lambda t: first_text(t).write_text(first_text(t).read_text() * 2),
        'is listed twice, first in',
    ),
    'absent': (lambda t: first_text(t).unlink(), 'has no text file'),
    'foreign': (lambda t: (t / 'a_1_2_leftImg8bit_pred.txt').write_text(''), 'no image of the set'),
}


@pytest.mark.parametrize('name', DAMAGES)
def test_cityscapes_trees(city: Path, name: str) -> None:
    sizes = cityscapes_images(city / 'annotations' / 'val.json')
    tree = city / 'tree'
    assert check_cityscapes(tree, sizes) == []
    assert check_cityscapes(city / 'tree.zip', sizes) == []
    damage, reason = DAMAGES[name]
    damage(tree)
    problems = check_cityscapes(tree, sizes)
    assert any(reason in p for p in problems), problems


def test_coco_file_names_are_noted(tmp_path: Path) -> None:
    truth, results = make_scene(0)
    (tmp_path / 'gt.json').write_text(json.dumps(truth))
    for name, noted in (('r.json', True), ('detections_test-dev2017_mine_results.json', False)):
        (tmp_path / name).write_text(json.dumps(results))
        problems, notes = check_submission('coco', tmp_path / name, tmp_path / 'gt.json')
        assert problems == [] and bool(notes) == noted


def test_a_folder_is_what_make_wrote_there(tmp_path: Path) -> None:
    truth, results = make_scene(0)
    for name, content in (('gt.json', truth), ('results.json', results)):
        (tmp_path / name).write_text(json.dumps(content))
    given = {'gt': tmp_path / 'gt.json', 'results': tmp_path / 'results.json'}
    for format, out in (('coco', tmp_path / 'made'), ('lvis', tmp_path / 'list')):
        made = make_submission(MakeOptions(format, out=out, **given))
        assert find_submission(format, out) == Path(made[-1])
        assert check_submission(format, find_submission(format, out), given['gt']) == ([], [])
    assert find_submission('coco', tmp_path / 'gt.json') == tmp_path / 'gt.json'
    assert find_submission('cityscapes', tmp_path) == tmp_path
    (tmp_path / 'made' / 'other.zip').touch()
    with pytest.raises(ValueError, match='_results.zip, other.zip: name the one'):
        find_submission('coco', tmp_path / 'made')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(ValueError, match='empty holds no zip or json'):
        find_submission('coco', tmp_path / 'empty')


def test_boxes_beside_a_part_of_the_masks_are_refused(tmp_path: Path) -> None:
    truth, results = make_scene(0)
    (tmp_path / 'in.json').write_text(
        json.dumps([{**results[0], 'bbox': [1, 1, 9, 9]}, *results[1:]])
    )
    found = check_list(tmp_path / 'in.json', GroundTruth.from_dict(truth))
    assert found == [f'only {len(results)} of {len(results)} entries have masks, 1 have boxes']
