"""The command: same entries with masks, refusals, and going on after a kill."""

import json
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from locations import ROOT
from mmdet.apis import inference_detector, init_detector
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from pycocotools import mask as coco_mask
from tiny_training import environment, write_config

from mmrefine.apis.given_boxes import BoxSegmenter
from mmrefine.apis.refine_results import RefineOptions, refine_results
from mmrefine.evaluation.score_file import score_file
from mmrefine.masks import encode
from mmrefine.results.resume_log import ResumeLog

sys.path.insert(0, str(ROOT / 'tools'))
from refine_results import main


@pytest.fixture(scope='module')
def work(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A tiny Mask R-CNN with weights, eight images and what it finds in them."""
    folder = tmp_path_factory.mktemp('refine')
    config = write_config(folder)
    torch.manual_seed(0)
    init_default_scope('mmdet')
    parsed = Config.fromfile(config)
    # the pipeline of the tests flips for training
    parsed.val_dataloader.dataset.pipeline = parsed.test_dataloader.dataset.pipeline = [
        step for step in parsed.pipeline if step.type != 'RandomFlip'
    ]
    parsed.dump(config)
    model = MODELS.build(parsed.model)
    model.init_weights()
    weights = folder / 'weights.pth'
    meta = dict(dataset_meta=dict(classes=('box', 'bar')))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), weights)
    model = init_detector(str(config), str(weights), device='cpu')
    entries, own = [], []
    for i in range(8):
        found = inference_detector(model, str(folder / 'data' / 'images' / f'{i}.png'))
        found = found.pred_instances
        for j, (x1, y1, x2, y2) in enumerate(found.bboxes.tolist()):
            if x2 > x1 and y2 > y1:
                entries.append(
                    dict(
                        image_id=i,
                        category_id=int(found.labels[j]) + 1,
                        bbox=[x1, y1, x2 - x1, y2 - y1],
                        score=float(found.scores[j]),
                        id=len(entries),
                    )
                )
                own.append(encode(found.masks[j][None])[0])
    assert len(entries) > 20
    (folder / 'in.json').write_text(json.dumps(entries))
    return dict(folder=folder, config=config, weights=weights, entries=entries, own=own)


def arguments(work: dict, out: Path, results: Path | None = None, **more: Any) -> list[str]:
    """Command line."""
    data = work['folder'] / 'data'
    options = {
        'config': work['config'],
        'checkpoint': work['weights'],
        'gt': data / 'annotations.json',
        'images': data / 'images',
        'results': results or work['folder'] / 'in.json',
        'out': out,
        'device': 'cpu',
        **more,
    }
    return [str(part) for k, v in options.items() for part in (f'--{k.replace("_", "-")}', v)]


def written(folder: Path, entries: list) -> Path:
    """A result file."""
    path = folder / 'results.json'
    path.write_text(json.dumps(entries))
    return path


def test_same_entries_with_the_masks_of_the_model(work: dict, tmp_path: Path) -> None:
    out = tmp_path / 'out.json'
    assert main(arguments(work, out)) == 0
    entries = json.loads(out.read_text())
    masks = [entry.pop('segmentation') for entry in entries]
    assert entries == work['entries']
    assert [dict(m, counts=m['counts'].encode()) for m in masks] == work['own']
    assert list(tmp_path.iterdir()) == [out]


def test_tiles_are_taken_from_the_command(
    work: dict, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    plain, tiled = tmp_path / 'plain.json', tmp_path / 'tiled.json'
    assert main(arguments(work, plain)) == 0
    assert main([*arguments(work, tiled), '--tile', '32', '40', '--overlap', '16']) == 0
    pairs = list(zip(json.loads(plain.read_text()), json.loads(tiled.read_text()), strict=True))
    assert all({**a, 'segmentation': 0} == {**b, 'segmentation': 0} for a, b in pairs)
    assert any(a != b for a, b in pairs)
    assert main([*arguments(work, tmp_path / 'b.json'), '--tile', '80', '--overlap', '90']) == 1
    assert 'overlap by 90' in capsys.readouterr().err


def test_any_order_and_old_masks_give_the_same(work: dict, tmp_path: Path) -> None:
    main(arguments(work, tmp_path / 'plain.json'))
    plain = {e['id']: e for e in json.loads((tmp_path / 'plain.json').read_text())}
    mixed = [dict(e, segmentation={'size': [1, 1], 'counts': '1'}) for e in work['entries']]
    np.random.default_rng(0).shuffle(mixed)
    path = written(tmp_path, mixed)
    assert main(arguments(work, tmp_path / 'mixed.json', path)) == 0
    found = json.loads((tmp_path / 'mixed.json').read_text())
    assert [e['id'] for e in found] == [e['id'] for e in mixed]
    assert all(e == plain[e['id']] for e in found)


def test_empty_file_stays_empty(work: dict, tmp_path: Path) -> None:
    assert main(arguments(work, tmp_path / 'out.json', written(tmp_path, []))) == 0
    assert json.loads((tmp_path / 'out.json').read_text()) == []


KILLED = """
import os, signal, sys
sys.path.insert(0, {tools!r})
from mmrefine.apis.given_boxes import BoxSegmenter
segment, seen = BoxSegmenter.segment, []
def dying(self, *arguments):
    seen.append(1)
    if len(seen) == {images}:
        os.kill(os.getpid(), signal.SIGKILL)
    return segment(self, *arguments)
BoxSegmenter.segment = dying
from refine_results import main
sys.exit(main(sys.argv[1:]))
"""


def test_killed_run_goes_on_and_gives_the_same_bytes(
    work: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main(arguments(work, tmp_path / 'whole.json'))
    out = tmp_path / 'out.json'
    code = KILLED.format(tools=str(ROOT / 'tools'), images=4)
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code, *arguments(work, out)], env=environment()
    )
    assert done.returncode == -signal.SIGKILL
    assert not out.exists() and (tmp_path / 'out.json.progress').exists()
    segment, files = BoxSegmenter.segment, []

    def counted(self: BoxSegmenter, image: Path, *rest: Any) -> Any:
        files.append(Path(image).name)
        return segment(self, image, *rest)

    monkeypatch.setattr(BoxSegmenter, 'segment', counted)
    assert main(arguments(work, out)) == 0
    assert files == [f'{i}.png' for i in range(3, 8)]
    assert out.read_bytes() == (tmp_path / 'whole.json').read_bytes()
    assert not (tmp_path / 'out.json.progress').exists()


def test_progress_of_another_run_is_not_taken(
    work: dict, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('mmrefine.apis.refine_results._masks', lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(arguments(work, tmp_path / 'out.json'))
    monkeypatch.undo()
    copy = shutil.copytree(work['folder'] / 'data' / 'images', tmp_path / 'images')
    results = written(tmp_path, work['entries'][:3])
    for change in (dict(results=results), dict(images=copy)):
        assert main(arguments(work, tmp_path / 'out.json', **change)) == 1
        assert 'begun by another run' in capsys.readouterr().err


def bad(work: dict, **change: Any) -> list[dict]:
    """The entries with one of them changed; None removes a field."""
    entries = [dict(entry) for entry in work['entries'][:3]]
    entries[1] = {k: v for k, v in {**entries[1], **change}.items() if v is not None}
    return entries


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(image_id=77), 'entry 1 .* image_id 77, which .* does not list'),
        (dict(category_id=9), 'entry 1 .* category_id 9, which .* does not list'),
        (dict(bbox=[0, 0, float('nan'), 4]), r'entry 1 \(image 0\) .*finite.*--bad-boxes'),
        (dict(bbox=[9, 9, -1, 4]), r'entry 1 .*w >= 0'),
        (dict(bbox=[9, 9, 4]), 'expected four finite numbers'),
        (dict(bbox='1 2 3 4'), 'expected four finite numbers'),
        (dict(bbox=None), r'entry 1 \(image 0\) has no "bbox"; give the box results'),
        (dict(score=None), 'entry 1 has no "score"'),
        (dict(image_id=[0]), r'image_id \[0\], which'),
        (dict(image_id=0.5), 'image_id 0.5, which'),
        (dict(bbox=[0, 0, 1e39, 4]), 'entry 1 .*finite'),
        (dict(bbox=[0, 0, 10**400, 4]), 'entry 1 .*finite'),
    ],
)
def test_bad_entries_are_named(
    work: dict, tmp_path: Path, change: dict, message: str, capsys: pytest.CaptureFixture
) -> None:
    path = written(tmp_path, bad(work, **change))
    assert main(arguments(work, tmp_path / 'out.json', path)) == 1
    error = capsys.readouterr().err
    assert error.startswith('error: ') and error.count('\n') == 1
    assert re.search(message, error), error
    # mended input goes on without hands
    assert main(arguments(work, tmp_path / 'out.json', written(tmp_path, bad(work)))) == 0


def test_a_field_that_is_no_box_is_refused_whatever_bad_boxes_get(
    work: dict, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = written(tmp_path, bad(work, bbox=[1, 2, 3]))
    assert main(arguments(work, tmp_path / 'out.json', path, bad_boxes='empty')) == 1
    assert 'expected four finite numbers' in capsys.readouterr().err


@pytest.mark.parametrize('far', [[900, 9, 5, 5], [9, 900, 5, 5], [-9, 9, 9, 5], [9, -9, 5, 9]])
def test_bad_and_far_boxes_can_be_empty(
    work: dict, tmp_path: Path, far: list, capsys: pytest.CaptureFixture
) -> None:
    entries = bad(work, bbox=[9, 9, -1, 4])
    entries[2]['bbox'] = far
    path = written(tmp_path, entries)
    assert main(arguments(work, tmp_path / 'out.json', path, bad_boxes='empty')) == 0
    found = json.loads((tmp_path / 'out.json').read_text())
    areas = [int(coco_mask.area(entry['segmentation'])) for entry in found]
    assert areas[0] > 0 and areas[1:] == [0, 0]
    told = capsys.readouterr().out
    assert '1 boxes are not finite or inverted' in told and '1 boxes do not touch' in told


def changed_gt(work: dict, tmp_path: Path, change: Any) -> Path:
    """The annotation file after a change."""
    data = json.loads((work['folder'] / 'data' / 'annotations.json').read_text())
    change(data)
    path = tmp_path / 'gt.json'
    path.write_text(json.dumps(data))
    return path


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda d: d['categories'][1].update(name='rod'), r'categories: rod \(id 2\)'),
        (lambda d: d['images'][2].update(width=99), '2.png has 64 x 64 pixels .* says 64 x 99'),
        (
            lambda d: d['images'][2].update(file_name='gone.png'),
            '1 of 8 images do not exist: .*gone.png',
        ),
    ],
)
def test_files_that_do_not_fit_are_named(
    work: dict, tmp_path: Path, change: Any, message: str
) -> None:
    gt = changed_gt(work, tmp_path, change)
    options = RefineOptions(
        config=str(work['config']),
        checkpoint=str(work['weights']),
        gt=gt,
        images=work['folder'] / 'data' / 'images',
        results=work['folder'] / 'in.json',
        out=tmp_path / 'out.json',
    )
    with pytest.raises(ValueError, match=message):
        refine_results(options)


@pytest.mark.parametrize('name', ['results', 'gt', 'config', 'checkpoint'])
def test_output_must_not_replace_the_input(
    work: dict, name: str, capsys: pytest.CaptureFixture
) -> None:
    command = arguments(work, work['folder'] / 'out.json')
    given = command[command.index(f'--{name}') + 1]
    before = Path(given).read_bytes()
    assert main(arguments(work, Path(given))) == 1
    assert f'is also --{name}, which is read' in capsys.readouterr().err
    assert Path(given).read_bytes() == before


def test_places_that_cannot_be_written_are_named_before_the_work(
    work: dict, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(arguments(work, tmp_path)) == 1
    assert 'is a folder: name a file in it' in capsys.readouterr().err
    out = tmp_path / 'out.json'
    progress = tmp_path / 'out.json.progress'
    progress.mkdir()
    assert main(arguments(work, out)) == 1
    assert 'unable to open database file; choose another --out' in capsys.readouterr().err
    progress.rmdir()
    with sqlite3.connect(progress) as other:
        other.execute('CREATE TABLE letters (text TEXT)')
    assert main(arguments(work, out)) == 1
    assert 'it holds something else' in capsys.readouterr().err


def test_two_processes_do_not_share_a_progress_file(
    work: dict, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    first = ResumeLog(tmp_path / 'out.json.progress', {})
    assert main(arguments(work, tmp_path / 'out.json')) == 1
    assert 'another process is at it' in capsys.readouterr().err
    first.close()
    first.path.unlink()
    assert main(arguments(work, tmp_path / 'out.json')) == 0


def changed_weights(work: dict, folder: Path, change: Any) -> Path:
    """The checkpoint after a change of its weights."""
    loaded = torch.load(work['weights'], weights_only=False)
    loaded['state_dict'] = change(loaded['state_dict'])
    path = folder / 'changed.pth'
    torch.save(loaded, path)
    return path


def without(*prefixes: str) -> Any:
    return lambda state: {k: v for k, v in state.items() if not k.startswith(prefixes)}


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda s: {f'x.{k}': v for k, v in s.items()}, 'lacks backbone.* more'),
        (without('roi_head.mask_head.conv_logits'), r'lacks \S*conv_logits\.weight, \S*bias$'),
        (lambda s: {k: v[:1] if v.ndim else v for k, v in s.items()}, 'of another model'),
        (lambda s: {k: v * torch.nan if v.ndim == 4 else v for k, v in s.items()}, 'NaN'),
    ],
)
def test_weights_of_another_model_are_refused(
    work: dict, tmp_path: Path, change: Any, message: str, capsys: pytest.CaptureFixture
) -> None:
    weights = changed_weights(work, tmp_path, change)
    assert main(arguments(work, tmp_path / 'out.json', checkpoint=weights)) == 1
    assert re.search(message, capsys.readouterr().err, re.M)
    assert not (tmp_path / 'out.json').exists()


def test_weights_that_make_boxes_are_not_needed(work: dict, tmp_path: Path) -> None:
    weights = changed_weights(work, tmp_path, without('rpn_head', 'roi_head.bbox_head'))
    assert main(arguments(work, tmp_path / 'out.json', checkpoint=weights)) == 0
    found = json.loads((tmp_path / 'out.json').read_text())
    masks = [entry['segmentation']['counts'].encode() for entry in found]
    assert masks == [mask['counts'] for mask in work['own']]


@pytest.mark.parametrize('device', ['tpu7', f'cuda:{torch.cuda.device_count()}'])
def test_devices_that_are_not_there_are_named(
    work: dict, tmp_path: Path, device: str, capsys: pytest.CaptureFixture
) -> None:
    assert main(arguments(work, tmp_path / 'out.json', device=device)) == 1
    assert re.search(f'error: .*{device}.* give .*cpu', capsys.readouterr().err)


def test_files_that_are_no_checkpoints_are_named(
    work: dict, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    weights = tmp_path / 'weights.pth'
    weights.write_text('not found: 404')
    assert main(arguments(work, tmp_path / 'out.json', checkpoint=weights)) == 1
    assert 'weights.pth is no checkpoint' in capsys.readouterr().err
    torch.save(dict(meta={}), weights)
    assert main(arguments(work, tmp_path / 'out.json', checkpoint=weights)) == 1
    assert 'weights.pth holds no weights' in capsys.readouterr().err


def test_lvis_images_are_found_by_their_address(work: dict, tmp_path: Path) -> None:
    def lvis(data: dict) -> None:
        for image in data['images']:
            name = image.pop('file_name')
            image['coco_url'] = f'http://images.cocodataset.org/val2017/{name}'

    gt = changed_gt(work, tmp_path, lvis)
    assert main(arguments(work, tmp_path / 'out.json', gt=gt)) == 0
    assert len(json.loads((tmp_path / 'out.json').read_text())) == len(work['entries'])


def test_output_is_what_evaluation_reads(work: dict, tmp_path: Path) -> None:
    out = tmp_path / 'out.json'
    main(arguments(work, out))
    numbers, _ = score_file(work['folder'] / 'data' / 'annotations.json', out)
    assert {'bbox_AP', 'segm_AP', 'boundary_AP'} <= set(numbers)
