"""Submissions from result files, dumps and models; whole or not at all."""

import importlib.util
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch
from evaluation.clips import make_clips
from evaluation.scenes import make_scene
from evaluation.town import make_city
from mmengine.config import Config
from mmengine.runner import save_checkpoint

from mmrefine.evaluation import GroundTruth, evaluate, load_results
from mmrefine.results.dumps import read_dump
from mmrefine.submission.check import check_submission
from mmrefine.submission.make import MakeOptions, make_submission


@pytest.fixture
def tool(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location('submit_tool', root / 'tools' / 'submit.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(folder: Path, truth: object, results: object) -> tuple[Path, Path]:
    (folder / 'gt.json').write_text(json.dumps(truth))
    (folder / 'in.json').write_text(json.dumps(results))
    return folder / 'gt.json', folder / 'in.json'


def test_coco_names_and_archive(tool: ModuleType, tmp_path: Path) -> None:
    truth, results = make_scene(0)
    gt, source = write(tmp_path, truth, results)
    options = f'--format coco --gt {gt} --results {source} --out {tmp_path}/out --algorithm mine'
    assert tool.main(['make', *options.split()]) == 0
    name = 'detections_test-dev2017_mine_results'
    assert sorted(p.name for p in (tmp_path / 'out').iterdir()) == [f'{name}.json', f'{name}.zip']
    with zipfile.ZipFile(tmp_path / 'out' / f'{name}.zip') as archive:
        assert archive.namelist() == [f'{name}.json']
        found = json.loads(archive.read(f'{name}.json'))
    key = lambda r: (r['image_id'], -r['score'], r['segmentation']['counts'])
    assert sorted(found, key=key) == sorted(results, key=key)
    check = ['check', '--format', 'coco', '--gt', str(gt), str(tmp_path / 'out' / f'{name}.zip')]
    assert tool.main(check) == 0


def test_the_best_three_hundred_of_an_image_go_to_lvis(tmp_path: Path) -> None:
    truth, results = make_scene(0, lvis=True)
    many = [{**results[0], 'score': (i + 1) / 1000} for i in range(500)]
    gt, source = write(tmp_path, truth, [*many, {**results[0], 'score': 0}])
    (tmp_path / 'out.json.progress').touch()  # of a run of the model, whose work is done
    (path,) = make_submission(MakeOptions('lvis', gt, tmp_path / 'out.json', source))
    assert not (tmp_path / 'out.json.progress').exists()
    scores = [entry['score'] for entry in json.loads(Path(path).read_text())]
    assert scores == [(i + 1) / 1000 for i in range(499, 199, -1)]


@pytest.mark.parametrize('format', ['coco', 'lvis', 'cityscapes'])
def test_fewer_an_image_can_be_asked_for(format: str, tmp_path: Path) -> None:
    truth, results = make_scene(0, lvis=True)
    if format == 'cityscapes':
        for category, name in zip(truth['categories'], ('car', 'bus', 'person')):
            category['name'] = name
        for image in truth['images']:
            image['file_name'] = f'town/town_{image["id"]:06d}_000019_leftImg8bit.png'
    gt, source = write(tmp_path, truth, results)
    options = MakeOptions(format, gt, tmp_path / 'out', source, max_per_image=1)
    made = Path(make_submission(options)[0])
    if format == 'cityscapes':
        assert {len(p.read_text().splitlines()) for p in made.glob('*.txt')} <= {0, 1}
        return
    kept = json.loads(made.read_text())
    best: dict = {}
    for entry in results:
        best[entry['image_id']] = max(best.get(entry['image_id'], 0), entry['score'])
    assert {entry['image_id']: entry['score'] for entry in kept} == best
    assert len(kept) == len(best)


def test_fewer_a_video_can_be_asked_for(tmp_path: Path) -> None:
    truth, results = make_clips(0)
    gt, source = write(tmp_path, truth, results)
    options = MakeOptions('youtube-vis', gt, tmp_path / 'out.zip', source, max_per_image=1)
    with zipfile.ZipFile(make_submission(options)[0]) as archive:
        kept = json.loads(archive.read('results.json'))
    best: dict = {}
    for track in results:
        best[track['video_id']] = max(best.get(track['video_id'], 0), track['score'])
    assert len(results) > len(kept) == len(best)
    assert {track['video_id']: track['score'] for track in kept} == best


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        ('--format coco --results in.json --classes a', '--classes is read with a dump (.pkl)'),
        ('--format coco --config a.py --classes a', '--classes is read with a dump'),
        ('--format coco --results in.json --image-root a', '--image-root is read with --config'),
        ('--format coco --results in.pkl --device cuda:0', '--device is read with --config only'),
        ('--format lvis --results in.json --algorithm a', '--algorithm is read with --format coco'),
    ],
)
def test_options_that_nothing_reads_are_refused(
    tool: ModuleType, tmp_path: Path, given: str, message: str, capsys: pytest.CaptureFixture
) -> None:
    gt, _ = write(tmp_path, *make_scene(0))
    given = given.replace('in.', f'{tmp_path}/in.')
    assert tool.main(['make', *f'--gt {gt} --out {tmp_path}/out {given}'.split()]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize('most', [0, -2])
def test_a_cap_below_one_is_refused(most: int, tmp_path: Path) -> None:
    gt, source = write(tmp_path, *make_scene(0))
    with pytest.raises(ValueError, match=f'max_per_image.* must be at least 1, got {most}'):
        make_submission(MakeOptions('coco', gt, tmp_path / 'out', source, max_per_image=most))
    with pytest.raises(ValueError, match='must be at least 1'):
        check_submission('lvis', source, gt, most)


def test_bad_results_leave_no_file(tool: ModuleType, tmp_path: Path, capsys: object) -> None:
    truth, results = make_scene(0)
    gt, source = write(tmp_path, truth, [*results, {**results[0], 'image_id': 6}])
    options = f'--format coco --gt {gt} --results {source} --out {tmp_path}/out'
    assert tool.main(['make', *options.split()]) == 1
    assert 'unknown image_id 6' in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ['gt.json', 'in.json']
    assert tool.main(['check', '--format', 'coco', '--gt', str(gt), str(source)]) == 1
    assert 'refused' in capsys.readouterr().out


def test_tracks_are_zipped_as_results_json(tool: ModuleType, tmp_path: Path) -> None:
    truth, results = make_clips(0)
    gt, source = write(tmp_path, truth, results)
    options = f'--format youtube-vis --gt {gt} --results {source} --out {tmp_path}/vis.zip'
    assert tool.main(['make', *options.split()]) == 0
    with zipfile.ZipFile(tmp_path / 'vis.zip') as archive:
        assert archive.namelist() == ['results.json']
        assert json.loads(archive.read('results.json')) == results
    assert sorted(p.name for p in tmp_path.iterdir()) == ['gt.json', 'in.json', 'vis.zip']


def test_cityscapes_tree_replaces_only_its_own_kind(tmp_path: Path) -> None:
    make_city(tmp_path, images=2)
    options = MakeOptions(
        'cityscapes',
        tmp_path / 'annotations' / 'val.json',
        tmp_path / 'tree',
        tmp_path / 'results.json',
    )
    assert make_submission(options) == make_submission(options)
    for name in ('thesis.tex', 'holiday.png'):
        (tmp_path / 'tree' / name).write_text('dear to somebody')
        with pytest.raises(ValueError, match=f'holds other files, e.g. {name}'):
            make_submission(options)
        (tmp_path / 'tree' / name).unlink()
    assert make_submission(options)


def test_empty_masks_are_left_out_of_a_cityscapes_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr('mmrefine.submission.make.log_warning', said.append)
    make_city(tmp_path, images=2)
    gt, source = tmp_path / 'annotations' / 'val.json', tmp_path / 'results.json'
    options = MakeOptions('cityscapes', gt, tmp_path / 'tree', source)
    results = json.loads(source.read_text())
    expected = tree(Path(make_submission(options)[0]))
    height, width = results[0]['segmentation']['size']
    nothing = {'size': [height, width], 'counts': [height * width]}
    source.write_text(
        json.dumps([*results, {**results[0], 'score': 1e-6, 'segmentation': nothing}])
    )
    assert tree(Path(make_submission(options)[0])) == expected
    assert said == ['1 detections whose mask is empty were left out']


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob('*') if p.is_file()}


@pytest.mark.parametrize('format', ['coco', 'lvis', 'cityscapes', 'youtube-vis'])
def test_a_refused_submission_leaves_the_earlier_one(format: str, tmp_path: Path) -> None:
    if format == 'cityscapes':
        make_city(tmp_path, images=2)
        gt, source = tmp_path / 'annotations/val.json', tmp_path / 'results.json'
    else:
        clips = format == 'youtube-vis'
        truth, results = make_clips(0) if clips else make_scene(0, lvis=format == 'lvis')
        gt, source = write(tmp_path, truth, results)
    options = MakeOptions(format, gt, tmp_path / 'out', source)
    made = make_submission(options)
    assert all(Path(file).exists() for file in made)
    results = json.loads(source.read_text())
    source.write_text(json.dumps([*results, {**results[0], 'score': 1.7}]))
    before = tree(tmp_path)
    with pytest.raises(ValueError, match=r'1\.7'):
        make_submission(options)
    assert tree(tmp_path) == before


@pytest.mark.parametrize('format, name', [('lvis', 'in'), ('lvis', 'gt.json'), ('coco', 'out')])
def test_submissions_do_not_replace_what_they_are_made_of(
    format: str, name: str, tmp_path: Path
) -> None:
    truth, results = make_scene(0, lvis=format == 'lvis')
    gt, source = write(tmp_path, truth, results)
    if format == 'coco':
        (tmp_path / 'out').mkdir()
        source = source.rename(tmp_path / 'out/detections_test-dev2017_mmrefine_results.json')
    before = tree(tmp_path)
    with pytest.raises(ValueError, match='name another output'):
        make_submission(MakeOptions(format, gt, tmp_path / name, source))
    assert tree(tmp_path) == before


def test_files_and_folders_do_not_take_each_others_place(tmp_path: Path) -> None:
    truth, results = make_scene(0, lvis=True)
    gt, source = write(tmp_path, truth, results)
    (tmp_path / 'out.json').mkdir()
    with pytest.raises(ValueError, match='out.json is a folder: choose another --out'):
        make_submission(MakeOptions('lvis', gt, tmp_path / 'out', source))


@pytest.mark.parametrize('score', ['0.5', None, [1]])
def test_scores_that_are_none_are_named(score: object, tmp_path: Path) -> None:
    for format, (truth, results) in (
        ('coco', make_scene(0)),
        ('youtube-vis', make_clips(0)),
    ):
        gt, source = write(tmp_path, truth, [{**results[0], 'score': score}])
        with pytest.raises(ValueError, match='entry 0 .*expected a finite number'):
            make_submission(MakeOptions(format, gt, tmp_path / 'out', source))
    (tmp_path / 'in.json').write_text('[[1], [2]]')
    with pytest.raises(ValueError, match='entry 0 is a list, expected an object'):
        make_submission(MakeOptions('youtube-vis', gt, tmp_path / 'out', tmp_path / 'in.json'))


def test_labels_become_categories_by_name(tmp_path: Path) -> None:
    truth, results = make_scene(0)
    gt = GroundTruth.from_dict(truth)
    names = list(gt.categories.values())
    assert gt.categories_named(names) == list(gt.categories)
    assert gt.categories_named(names[1:]) == list(gt.categories)[1:]
    with pytest.raises(ValueError, match='does not list these classes of the model: dodo'):
        gt.categories_named([*names, 'dodo'])
    with pytest.raises(ValueError, match='in another order'):
        gt.categories_named(names[::-1])
    file, _ = write(tmp_path, truth, [])
    second = [r for r in results if gt.categories[r['category_id']] == names[1]]
    dump(tmp_path / 'dump.pkl', {**truth, 'categories': truth['categories'][1:]}, second)
    options = MakeOptions('coco', file, tmp_path / 'out', tmp_path / 'dump.pkl', classes=names[1:])
    made = json.loads(Path(make_submission(options)[0]).read_text())
    assert len(made) == len(second) > 0
    assert {r['category_id'] for r in made} == {second[0]['category_id']}


def dump(path: Path, truth: dict, results: list, protocol: int | None = None) -> None:
    ids = [c['id'] for c in truth['categories']]
    samples = []
    for image in truth['images']:
        own = [r for r in results if r['image_id'] == image['id']]
        pred = {
            'bboxes': torch.tensor([[1.0, 2.0, 3.0, 4.0]] * len(own)).reshape(-1, 4),
            'scores': torch.tensor([r['score'] for r in own], dtype=torch.float64),
            'labels': torch.tensor([ids.index(r['category_id']) for r in own], dtype=torch.long),
            'masks': [r['segmentation'] for r in own],
        }
        shape = (image['height'], image['width'])
        extra = {'scale_factor': (np.float64(1.5), 1.5), 'pad': np.zeros(3)}
        samples.append({'img_id': image['id'], 'ori_shape': shape, 'pred_instances': pred, **extra})
    path.write_bytes(pickle.dumps(samples, protocol))


@pytest.mark.parametrize('protocol', [2, 5])  # MMEngine's, Python's
@pytest.mark.parametrize('kind', [str, str.encode])
def test_dumps_of_mim_test(protocol: int, kind: Callable, tmp_path: Path) -> None:
    truth, results = make_scene(0)
    gt, _ = write(tmp_path, truth, results)
    masks = [r['segmentation'] for r in results]
    held = [
        {**r, 'segmentation': {**m, 'counts': kind(m['counts'])}} for r, m in zip(results, masks)
    ]
    dump(tmp_path / 'dump.pkl', truth, held, protocol)
    files = make_submission(MakeOptions('coco', gt, tmp_path / 'out', tmp_path / 'dump.pkl'))
    checked = GroundTruth.from_dict(truth)
    found = evaluate(checked, load_results(files[0], checked), ['segm']).numbers
    assert found == evaluate(checked, load_results(results, checked), ['segm']).numbers


class Trap:
    def __reduce__(self) -> tuple:
        return (Path.write_text, (Path('trap.txt'), 'sprung'))


def test_pickles_that_hold_code_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / 'dump.pkl'
    file.write_bytes(pickle.dumps([{'img_id': 1, 'pred_instances': Trap()}]))
    with pytest.raises(ValueError, match='could run code: refused'):
        read_dump(file)
    assert not (tmp_path / 'trap.txt').exists()
    inner = torch.storage._load_from_bytes
    payload = tmp_path / 'payload.pt'
    torch.save(Trap(), payload)

    class Nested:
        def __reduce__(self) -> tuple:
            return (inner, (payload.read_bytes(),))

    file.write_bytes(pickle.dumps([{'img_id': 1, 'pred_instances': Nested()}]))
    with pytest.raises(ValueError, match='cannot be read as a dump'):
        read_dump(file)
    assert not (tmp_path / 'trap.txt').exists()


@pytest.mark.parametrize('content', [b'', b'\x80\x04]', pickle.dumps({'a': 1}), b'text'])
def test_what_is_no_dump_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / 'dump.pkl'
    file.write_bytes(content)
    with pytest.raises(ValueError, match='dump'):
        read_dump(file)


@pytest.mark.slow
def test_a_model_run_goes_on_where_it_stopped(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmdet.apis import inference_detector
    from mmdet.registry import MODELS
    from mmdet.structures import DetDataSample

    from mmrefine.apis import predict_images

    config = root / 'configs' / 'refinemask' / 'mask-rcnn_tiny_shapes.py'
    cfg = Config.fromfile(config)
    names = [f'class {i}' for i in range(8)]
    model = MODELS.build(cfg.model)
    meta = {'dataset_meta': {'classes': names}}
    save_checkpoint({'state_dict': model.state_dict(), 'meta': meta}, str(tmp_path / 'w.pth'))
    truth = {'images': [], 'annotations': []}
    truth['categories'] = [{'id': 2 * i, 'name': name} for i, name in enumerate(names)]
    rng = np.random.default_rng(0)
    for i in range(4):
        cv2.imwrite(str(tmp_path / f'{i}.png'), rng.integers(0, 255, (64, 80, 3), np.uint8))
        truth['images'].append({'id': i, 'file_name': f'{i}.png', 'height': 64, 'width': 80})
    gt, _ = write(tmp_path, truth, [])
    calls: list[str] = []

    def limited(model: object, path: str) -> object:
        calls.append(path)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return inference_detector(model, path)

    monkeypatch.setattr(predict_images, 'inference_detector', limited)
    options = MakeOptions(
        'coco',
        gt,
        tmp_path / 'out',
        config=str(config),
        checkpoint=str(tmp_path / 'w.pth'),
        image_root=tmp_path,
    )
    with pytest.raises(KeyboardInterrupt):
        make_submission(options)
    assert not (tmp_path / 'out').exists()
    make_submission(options)
    assert [Path(c).name for c in calls] == ['0.png', '1.png', '2.png', '2.png', '3.png']
    # Another list of images is another run, even where the ids are the same.
    for image in truth['images']:
        image['file_name'] = '0.png'
    write(tmp_path, truth, [])
    calls.clear()
    calls += ['', '', '']
    make_submission(options)
    assert [Path(c).name for c in calls[3:]] == ['0.png'] * 4
    assert not (tmp_path / 'out.progress').exists()
    # A panoptic model alone gives no objects.
    monkeypatch.setattr(predict_images, 'inference_detector', lambda *_: DetDataSample())
    with pytest.raises(ValueError, match='image 0 .* has no pred_instances'):
        make_submission(options)
