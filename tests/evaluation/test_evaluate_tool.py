"""The command line writes every number by name, and one sentence where it cannot."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
from evaluation.clips import make_clips
from evaluation.scenes import make_scene

from mmrefine.evaluation import GroundTruth, cocofy, evaluate, load_results, make_rules


@pytest.fixture
def tool(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location('evaluate_tool', root / 'tools' / 'evaluate.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(folder: Path, **files: object) -> list[str]:
    for name, content in files.items():
        (folder / f'{name}.json').write_text(json.dumps(content))
    return ['--gt', f'{folder}/gt.json', '--results', f'{folder}/results.json']


@pytest.mark.parametrize('protocol', ['coco', 'lvis', 'lvis-fixed'])
def test_numbers_are_written_by_name(tool: ModuleType, tmp_path: Path, protocol: str) -> None:
    truth, results = make_scene(1, lvis=protocol != 'coco')
    args = write(tmp_path, gt=truth, results=results)
    out = tmp_path / 'out.json'
    assert tool.main([*args, '--format', protocol, '--json', str(out)]) == 0
    found = json.loads(out.read_text())
    gt = GroundTruth.from_dict(truth, federated=protocol != 'coco')
    types = ['segm', 'boundary']  # the results have no boxes
    dt = load_results(results, gt)
    assert found == evaluate(gt, dt, types, rules=make_rules(protocol)).numbers
    names = {'segm_AP', 'boundary_AP', 'boundary_AP_s', 'segm_AR_l'}
    names |= {'segm_AR100'} if protocol == 'coco' else {'segm_APr', 'boundary_APc'}
    assert names <= found.keys()
    assert all(value == -1 or 0 <= value <= 1 for value in found.values())


def test_ap_star_drops_images_beyond_the_annotations(tool: ModuleType, tmp_path: Path) -> None:
    truth, results = make_scene(1, lvis=True)
    for category, synset in zip(truth['categories'], ('person.n.01', 'beef.n.01', 'dog.n.01')):
        category['synset'] = synset
    coco_ids = {3: 1, 5: 21, 7: 18}
    renamed = [{**r, 'category_id': coco_ids[r['category_id']]} for r in results]
    extra = {**renamed[0], 'image_id': 10**6}
    args = write(tmp_path, gt=truth, results=[*renamed, extra])
    out = tmp_path / 'out.json'
    options = ['--format', 'coco-on-lvis', '--iou-type', 'segm', 'boundary', '--json', str(out)]
    assert tool.main([*args, *options]) == 0
    gt = GroundTruth.from_dict(cocofy(truth), federated=True)
    rules = make_rules('coco-on-lvis')
    expected = evaluate(gt, load_results(renamed, gt), ['segm', 'boundary'], rules).numbers
    assert json.loads(out.read_text()) == expected


def test_options_reach_the_rules(tool: ModuleType, tmp_path: Path) -> None:
    truth, results = make_scene(1)
    args = write(tmp_path, gt=truth, results=results)
    out = tmp_path / 'out.json'
    options = '--iou-type segm --max-dets 3 --areas tiny:0:50 --backend vernier --classwise --json'
    assert tool.main([*args, *options.split(), str(out)]) == 0
    found = json.loads(out.read_text())
    expected = {'segm_AP', 'segm_AP50', 'segm_AP75', 'segm_AP_tiny', 'segm_AR1', 'segm_AR3'}
    expected |= {'segm_AR_tiny', 'segm_AP/ant', 'segm_AP/bee', 'segm_AP/cat'}
    assert found.keys() == expected


def test_tracks(tool: ModuleType, tmp_path: Path) -> None:
    truth, results = make_clips(3)
    args = write(tmp_path, gt=truth, results=results)
    out = tmp_path / 'out.json'
    assert tool.main([*args, '--format', 'youtube-vis', '--json', str(out)]) == 0
    assert 0 < json.loads(out.read_text())['segm_AP'] < 1


@pytest.mark.parametrize(
    ('options', 'reason'),
    [
        (['--gt', 'nowhere.json'], 'nowhere.json does not exist'),
        (['--format', 'lvis'], 'neg_category_ids'),
        (['--format', 'youtube-vis', '--iou-type', 'segm'], '"videos"'),
        (['--format', 'youtube-vis', '--iou-type', 'boundary'], 'masks only'),
        (['--areas', 'small'], 'NAME:LEAST:MOST'),
        (['--areas', 's:a:b'], 'with numbers of square pixels, got s:a:b'),
        (['--areas', 's:0:10', 's:10:20'], "two ranges called 's'"),
        (['--max-dets', '0'], 'max_dets must be positive'),
        (
            ['--max-dets', '0', '--format', 'lvis'],
            'max_dets (per_image) must be a positive integer',
        ),
        (['--format', 'cityscapes', '--max-dets', '5', '--areas', 's:0:9'], '--max-dets'),
    ],
)
def test_a_sentence_instead_of_a_traceback(
    tool: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    options: list[str],
    reason: str,
) -> None:
    truth, results = make_scene(1)
    args = write(tmp_path, gt=truth, results=results)
    out = tmp_path / 'out.json'
    assert tool.main([*args, *options, '--json', str(out)]) == 1
    error = capsys.readouterr().err
    assert error.startswith('error: ') and reason in error
    assert not out.exists()


def test_swapped_files_are_recognised(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    truth, results = make_scene(1, lvis=True)
    write(tmp_path, gt=truth, results=results)
    swapped = ['--gt', f'{tmp_path}/results.json', '--results', f'{tmp_path}/gt.json']
    for format in ('coco', 'lvis', 'coco-on-lvis', 'cityscapes', 'youtube-vis'):
        assert tool.main([*swapped, '--format', format]) == 1
        error = capsys.readouterr().err
        assert error.startswith('error: ') and 'results.json' in error, format


def test_categories_are_shown_as_they_are_named(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    truth, results = make_scene(1)
    names = ('x [/b]', 'box [small]', ':car:')
    for category, name in zip(truth['categories'], names):
        category['name'] = name
    args = write(tmp_path, gt=truth, results=results)
    assert tool.main([*args, '--iou-type', 'segm', '--classwise']) == 0
    shown = capsys.readouterr().out
    assert all(f' {name} ' in shown for name in names)
