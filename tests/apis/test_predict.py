"""Pictures in, drawn pictures and results out; every way a user can go wrong."""

import copy
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from locations import ROOT
from mmdet.apis import inference_detector
from mmengine.config import Config
from noise_pictures import photo
from PIL import Image
from pycocotools import mask as coco_mask

from mmrefine.apis.inputs import find_inputs
from mmrefine.apis.load_model import load_model
from mmrefine.apis.predict import predict
from mmrefine.evaluation import evaluate
from mmrefine.results.detections import load_results
from mmrefine.results.ground_truth import GroundTruth

CONFIG = ROOT / 'configs' / 'refinemask' / 'refinemask_tiny_fruit-nuts.py'
CLASSES = ('date', 'fig', 'hazelnut')
SCORE = 0.25  # of random weights, a handful of objects


def test_results_are_those_of_mmdetection(model: torch.nn.Module, tmp_path: Path) -> None:
    path = photo(tmp_path / 'a.png')
    (found,) = predict(model, path, score=SCORE).predictions.values()
    stock = inference_detector(model, str(path)).pred_instances
    stock = stock[stock.scores >= SCORE]
    assert 0 < len(found) == len(stock)
    order = np.argsort(-stock.scores.numpy(), kind='stable')
    np.testing.assert_array_equal(found.scores, stock.scores.numpy()[order])
    boxes = stock.bboxes.numpy()[order]
    np.testing.assert_allclose(found.boxes[:, :2] + found.boxes[:, 2:], boxes[:, 2:], rtol=1e-6)
    assert [r['counts'] for r in found.rles] == [stock.masks[i]['counts'] for i in order]


def test_files_of_a_run_fit_each_other(model: torch.nn.Module, tmp_path: Path) -> None:
    photo(tmp_path / 'in' / 'a.png')
    photo(tmp_path / 'in' / 'sub' / 'ä b.jpg', seed=1)
    out = tmp_path / 'out'
    run = predict(model, tmp_path / 'in', out, score=SCORE, polygons=True, crops=True)
    assert run.pictures == 2 and sum(run.objects.values()) > 0
    assert sorted(
        p.relative_to(out / 'pictures').as_posix() for p in out.glob('pictures/**/*.jpg')
    ) == [
        'a.jpg',
        'sub/ä b.jpg',
    ]
    gt = GroundTruth.load(out / 'images.json')
    results = load_results(out / 'predictions.json', gt)
    assert len(results) == sum(run.objects.values())
    assert set(gt.categories.values()) == set(CLASSES)
    assert list(gt.sizes) == [1, 2]  # tools of others take an id of 0 for none
    content = json.loads((out / 'polygons.json').read_text())
    assert len(content['annotations']) == len(results)
    features = json.loads((out / 'polygons.geojson').read_text())['features']
    assert {f['properties']['category'] for f in features} <= set(CLASSES)
    entries = json.loads((out / 'predictions.json').read_text())
    filled = sum(coco_mask.area(e['segmentation']) > 0 for e in entries)
    assert len(list(out.glob('crops/**/*.png'))) == filled
    assert not (out / 'run.log').exists()
    # the annotations made of the predictions score them perfectly where masks agree
    truth = GroundTruth.from_dict({**content, 'annotations': _with_masks(content, entries)})
    assert evaluate(truth, results, ('segm',)).numbers['segm_AP'] > 0.99


def _with_masks(content: dict, entries: list[dict]) -> list[dict]:
    pairs = zip(content['annotations'], entries)
    return [
        {**a, 'segmentation': e['segmentation']}
        for a, e in pairs
        if coco_mask.area(e['segmentation']) > 0
    ]


def test_a_folder_of_an_earlier_run_is_told(
    model: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmrefine.apis import predict as module

    said: list[str] = []
    monkeypatch.setattr(module, 'log_warning', said.append)
    path, out = photo(tmp_path / 'a.png'), tmp_path / 'out'
    predict(model, path, out, score=SCORE)
    assert said == []
    predict(model, path, out, score=0.99)
    assert said == [f'{out} holds an earlier run, of which pictures and crops may stay']


def test_an_interrupted_run_goes_on(
    model: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(3):
        photo(tmp_path / 'in' / f'{i}.png', seed=i)
    from mmrefine.apis import prediction_files as module

    whole = predict(model, tmp_path / 'in', tmp_path / 'whole', score=SCORE)
    drawn = []

    def failing(pixels: np.ndarray, *args: object) -> np.ndarray:
        drawn.append(1)
        if len(drawn) == 2:
            raise KeyboardInterrupt
        return pixels

    monkeypatch.setattr(module, 'draw_prediction', failing)
    with pytest.raises(KeyboardInterrupt):
        predict(model, tmp_path / 'in', tmp_path / 'out', score=SCORE)
    assert not (tmp_path / 'out' / 'predictions.json').exists()
    with pytest.raises(ValueError, match='begun by another run'):
        predict(model, tmp_path / 'in', tmp_path / 'out', score=0.9)
    again = predict(model, tmp_path / 'in', tmp_path / 'out', score=SCORE)
    assert len(drawn) == 4  # the first picture was not predicted again
    assert again.objects == whole.objects
    for name in ('predictions.json', 'images.json'):
        assert (tmp_path / 'out' / name).read_text() == (tmp_path / 'whole' / name).read_text()


def test_batches_and_classes(model: torch.nn.Module, tmp_path: Path) -> None:
    for i in range(3):
        photo(tmp_path / f'{i}.png', seed=i)
    one = predict(model, tmp_path, score=SCORE)
    two = predict(model, tmp_path, score=SCORE, batch_size=2)
    assert one.objects == two.objects
    name = one.objects.most_common(1)[0][0]
    only = predict(model, tmp_path, score=SCORE, classes=[name])
    assert only.objects == {name: one.objects[name]}
    with pytest.raises(ValueError, match="no class 'cat'; it has date, fig, hazelnut"):
        predict(model, tmp_path, classes=['cat'])


def test_unreadable_pictures_are_told_and_left_out(model: torch.nn.Module, tmp_path: Path) -> None:
    photo(tmp_path / 'good.png')
    (tmp_path / 'bad.jpg').write_bytes(b'no picture')
    (tmp_path / 'empty.png').write_bytes(b'')
    cut = photo(tmp_path / 'cut.png').read_bytes()
    (tmp_path / 'cut.png').write_bytes(cut[:40])
    run = predict(model, tmp_path, tmp_path / 'out', score=SCORE)
    assert run.pictures == 1 and len(run.unreadable) == 3
    assert all(name in ' '.join(run.unreadable) for name in ('bad.jpg', 'empty.png', 'cut.png'))


@pytest.mark.parametrize('options', [{}, {'batch_size': 3}])
def test_pictures_the_scale_makes_nothing_of_are_left_out(
    model: torch.nn.Module, tmp_path: Path, options: dict
) -> None:
    photo(tmp_path / 'a.png')
    cv2.imwrite(str(tmp_path / 'b.png'), np.zeros((1, 4000, 3), np.uint8))
    photo(tmp_path / 'c.png', seed=1)
    config = model.cfg
    model.cfg = copy.deepcopy(config)
    for step in model.cfg.test_dataloader.dataset.pipeline:
        if step.type == 'Resize':
            step.pop('scale_factor', None)
            step.update(scale=(64, 48), keep_ratio=True)
    try:
        run = predict(model, tmp_path, score=SCORE, **options)
    finally:
        model.cfg = config
    assert [path.name for path in run.predictions] == ['a.png', 'c.png']
    (said,) = run.unreadable
    assert said.startswith(f'{tmp_path / "b.png"}: ') and 'no image the test pipeline' in said


def test_other_errors_name_the_picture_and_end_the_run(
    model: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmrefine.apis import predictor as module

    def fail(instances: object, size: tuple[int, int], name: str) -> None:
        if size == (96, 128):
            raise ValueError(f'{name} has scores that are no numbers')
        return whole(instances, size, name)

    photo(tmp_path / 'b.png')
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((80, 80, 3), np.uint8))
    whole = module.read_instances
    monkeypatch.setattr(module, 'read_instances', fail)
    with pytest.raises(ValueError, match='b.png: the picture has scores'):
        predict(model, tmp_path, score=SCORE, batch_size=2)


def test_results_never_replace_inputs(model: torch.nn.Module, tmp_path: Path) -> None:
    path = photo(tmp_path / 'pictures' / 'a.jpg')
    before = path.read_bytes()
    with pytest.raises(ValueError, match='a.jpg lies in .*pictures, where results are written'):
        predict(model, path, tmp_path, score=SCORE)
    assert path.read_bytes() == before
    assert predict(model, path, tmp_path, score=SCORE, pictures=False).pictures == 1
    (tmp_path / 'crops').symlink_to(tmp_path / 'pictures')
    with pytest.raises(ValueError, match='where results are written'):
        predict(model, path, tmp_path, score=SCORE, pictures=False, crops=True)


def test_lists_name_the_files_themselves(model: torch.nn.Module, tmp_path: Path) -> None:
    names = ['DJI 7%[x].rf.3fa.png', 'a.jpg', 'a.png', 'a_2.png', 'f.0001.png', 'f.0002.png']
    for seed, name in enumerate(names):
        photo(tmp_path / 'in' / name, seed=seed)
    out = tmp_path / 'out'
    predict(model, tmp_path / 'in', out, score=SCORE)
    listed = json.loads((out / 'images.json').read_text())['images']
    assert [image['file_name'] for image in listed] == names
    assert len(list((out / 'pictures').iterdir())) == len(names)
    folders = [photo(tmp_path / folder / 'a.jpg').parent for folder in 'xy']
    pictures, _ = find_inputs(folders)
    assert [p.file_name for p in pictures] == [f'{folder.as_posix()}/a.jpg' for folder in folders]


def test_drawings_and_crops_show_what_the_loader_of_the_config_reads(
    checkpoint: Path, tmp_path: Path
) -> None:
    config = Config.fromfile(CONFIG)
    config.test_dataloader.dataset.pipeline[0].color_type = 'color_ignore_orientation'
    turned = load_model(config, checkpoint)
    upright, path = photo(tmp_path / 'a.png'), tmp_path / 'b.jpg'
    exif = Image.Exif()
    exif[0x112] = 6
    Image.open(upright).save(path, exif=exif, quality=95)
    out = tmp_path / 'out'
    predict(turned, path, out, score=SCORE, crops=True)
    drawn = cv2.imread(str(out / 'pictures' / 'b.jpg'))
    assert drawn.shape == (96, 128, 3)
    (image,) = json.loads((out / 'images.json').read_text())['images']
    assert (image['height'], image['width']) == (96, 128)
    assert list((out / 'crops').iterdir())


def test_another_model_does_not_go_on(
    model: torch.nn.Module, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(2):
        photo(tmp_path / 'in' / f'{i}.png', seed=i)
    from mmrefine.apis import prediction_files as module

    drawn = []

    def stop(pixels: np.ndarray, *args: object) -> np.ndarray:
        drawn.append(1)
        if len(drawn) == 2:
            raise KeyboardInterrupt
        return pixels

    monkeypatch.setattr(module, 'draw_prediction', stop)
    with pytest.raises(KeyboardInterrupt):
        predict(model, tmp_path / 'in', tmp_path / 'out', score=SCORE)
    other = load_model(CONFIG, checkpoint)
    with torch.no_grad():
        next(other.parameters()).add_(1)
    with pytest.raises(ValueError, match='begun by another run'):
        predict(other, tmp_path / 'in', tmp_path / 'out', score=SCORE)
    predict(load_model(CONFIG, checkpoint), tmp_path / 'in', tmp_path / 'out', score=SCORE)
    assert len(drawn) == 3


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(polygons=True, tolerance=-5.0), 'tolerance .* 0 or more, got -5'),
        (dict(polygons=True, tolerance=float('nan')), 'got nan'),
        (dict(tolerance=1.0), 'options of polygons'),
        (dict(world_files=True), 'options of polygons'),
        (dict(merge='mean'), 'merge must be one of'),
        (dict(batch_size=0), 'batch_size must be at least 1, got 0'),
        (dict(score=50), 'score must lie between 0 and 1, got 50'),
        (dict(score=float('nan')), 'score must lie .* got nan'),
    ],
)
def test_options_that_make_no_sense_are_refused(
    model: torch.nn.Module, tmp_path: Path, options: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        predict(model, photo(tmp_path / 'a.png'), tmp_path / 'out', **options)
    assert not (tmp_path / 'out').exists()
