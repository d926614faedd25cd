"""Tiles, views, exclusive masks and maps through ``predict``."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from locations import ROOT
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import PixelData
from shapely.geometry import shape
from tiny_stock_models import tiny_stock_config

from mmrefine.apis.inputs import read_world_file
from mmrefine.apis.load_model import load_model
from mmrefine.apis.predict import PredictionRun, predict
from mmrefine.apis.predictor import Prediction, Predictor
from mmrefine.apis.views import View, parse_views
from mmrefine.masks import to_dense

CONFIG = ROOT / 'configs' / 'refinemask' / 'refinemask_tiny_fruit-nuts.py'
SCORE = 0.25  # of random weights, a handful of objects


def built(config: Config, folder: Path) -> torch.nn.Module:
    """The model with random weights, kept by their seed."""
    torch.manual_seed(3)
    model = MODELS.build(config.model)
    model.init_weights()
    meta = {'dataset_meta': {'classes': ('date', 'fig', 'hazelnut')}}
    torch.save({'state_dict': model.state_dict(), 'meta': meta}, folder / 'weights.pth')
    return load_model(config, folder / 'weights.pth')


@pytest.fixture(scope='module')
def model(tmp_path_factory: pytest.TempPathFactory) -> torch.nn.Module:
    return built(Config.fromfile(CONFIG), tmp_path_factory.mktemp('weights'))


@pytest.fixture(scope='module')
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Smooth noise of two sizes."""
    folder = tmp_path_factory.mktemp('pictures')
    for name, size in (('large', (160, 200)), ('small', (90, 96))):
        small = np.random.default_rng(len(name)).integers(0, 255, (9, 11, 3), np.uint8)
        content = cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f'{name}.png'), content)
    return folder


def same(a: Prediction, b: Prediction) -> bool:
    arrays = all(
        np.array_equal(getattr(a, key), getattr(b, key)) for key in ('boxes', 'scores', 'labels')
    )
    return arrays and a.rles == b.rles and len(a) > 0


def found(run: PredictionRun) -> dict[str, Prediction]:
    return {path.stem: prediction for path, prediction in run.predictions.items()}


def test_one_view_and_no_seam_are_the_plain_prediction(
    model: torch.nn.Module, pictures: Path
) -> None:
    plain = found(predict(model, pictures, score=SCORE))
    for options in (dict(views=[View()]), dict(tile=200), dict(tile=(160, 200), overlap=0)):
        other = found(predict(model, pictures, score=SCORE, **options))
        assert all(same(plain[name], other[name]) for name in plain)
    cut = found(predict(model, pictures, score=SCORE, tile=96, overlap=32))
    assert same(plain['small'], cut['small'])
    assert len(cut['large']) and not same(plain['large'], cut['large'])


def test_views_of_a_tile_are_merged(model: torch.nn.Module, pictures: Path) -> None:
    views = parse_views(['1', '1.5', 'flip'])
    merged = found(predict(model, pictures, score=SCORE, views=views, batch_size=2))
    alone = found(predict(model, pictures / 'large.png', score=SCORE, views=views))
    # another batch size rounds otherwise on some processors
    a, b = merged['large'], alone['large']
    assert len(a) > 0 and np.array_equal(a.labels, b.labels)
    np.testing.assert_allclose(a.boxes, b.boxes, rtol=0, atol=1e-3)
    np.testing.assert_allclose(a.scores, b.scores, rtol=0, atol=1e-5)
    for first, second in zip(to_dense(a.rles, a.size), to_dense(b.rles, b.size), strict=True):
        assert (first != second).sum() <= 0.001 * first.sum()
    for merge in ('soft_nms', 'weighted_boxes'):
        other = found(predict(model, pictures, score=0.05, views=views, merge=merge, tile=96))
        assert len(other['large']) and not same(other['large'], merged['large'])


def test_a_model_with_dense_masks_is_tiled_too(pictures: Path, tmp_path: Path) -> None:
    """A mask head that is none of MMDetection's cannot give RLE."""
    config = tiny_stock_config('mask_rcnn/mask-rcnn_r50_fpn_1x_coco')
    config.test_dataloader.dataset.pipeline[1].scale = (96, 96)
    config.model.test_cfg.rcnn.mask_thr_binary = 0.4
    model = built(config, tmp_path)
    head = model.roi_head.mask_head

    class Own(type(head)):  # type: ignore[misc]
        """A head of one's own."""

    head.__class__ = Own
    run = found(predict(model, pictures, score=0.05, tile=96, views=[View(), View(1, 'vertical')]))
    assert type(model.roi_head.mask_head) is Own
    assert all(len(prediction) for prediction in run.values())


def test_masks_do_not_overlap_where_asked(model: torch.nn.Module, pictures: Path) -> None:
    for options in (dict(), dict(tile=96)):
        plain = found(predict(model, pictures, score=0.1, **options))['large']
        result = found(predict(model, pictures, score=0.1, exclusive=True, **options))['large']
        count = to_dense(plain.rles).sum(0)
        assert count.max() > 1
        assert torch.equal(to_dense(result.rles).sum(0), count.clamp(max=1))


def test_a_stopped_run_goes_on_with_the_same_tiles_only(
    model: torch.nn.Module, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predicted = []
    whole = Predictor.__call__

    def stopping(self: Predictor, batch: object) -> object:
        for prediction in whole(self, batch):
            predicted.append(1)
            if len(predicted) == 8:
                raise KeyboardInterrupt
            yield prediction

    monkeypatch.setattr(Predictor, '__call__', stopping)
    options = dict(score=SCORE, tile=96, overlap=32, pictures=False)
    with pytest.raises(KeyboardInterrupt):
        predict(model, pictures, tmp_path / 'out', **options)
    with pytest.raises(ValueError, match='begun by another run'):
        predict(model, pictures, tmp_path / 'out', **options | dict(overlap=33))
    predict(model, pictures, tmp_path / 'out', **options)
    assert len(predicted) == 8 + 1  # six tiles and the reduced picture are not predicted again
    expected = predict(model, pictures, tmp_path / 'again', **options)
    name = 'predictions.json'
    assert (tmp_path / 'out' / name).read_text() == (tmp_path / 'again' / name).read_text()
    assert sum(expected.objects.values()) > 0


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(tile=64, overlap=64), 'overlap by 64'),
        (dict(overlap=16), 'needs tiles'),
        (dict(views=[]), 'list of views is empty'),
        (dict(merge='union'), "merge must be one of .*'union'"),
    ],
)
def test_what_makes_no_sense_is_refused(
    model: torch.nn.Module, pictures: Path, options: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        predict(model, pictures, **options)


@pytest.mark.parametrize('options', [dict(), dict(tile=96), dict(views=parse_views(['flip']))])
def test_models_without_masks_are_refused(pictures: Path, tmp_path: Path, options: dict) -> None:
    config = tiny_stock_config('faster_rcnn/faster-rcnn_r50_fpn_1x_coco')
    config.test_dataloader.dataset.pipeline[1].scale = (96, 96)
    model = built(config, tmp_path)
    with pytest.raises(ValueError, match='FasterRCNN gives no masks of objects'):
        predict(model, pictures, score=0.0, **options)
    # MaskFormer's answer, as its configs are published
    model.predict = lambda inputs, samples, **_: [
        DetDataSample(metainfo=sample.metainfo, pred_panoptic_seg=PixelData(sem_seg=inputs[:1, 0]))
        for sample in samples
    ]
    with pytest.raises(ValueError, match='FasterRCNN gives no (masks of )?objects'):
        predict(model, pictures, score=0.0, **options)


# Maps.


def test_features_lie_where_the_world_file_says(
    model: torch.nn.Module, pictures: Path, tmp_path: Path
) -> None:
    """Half a metre a pixel, north up, the centre of the first pixel at (1000, 5000)."""
    folder = tmp_path / 'in'
    folder.mkdir()
    (folder / 'a.png').write_bytes((pictures / 'large.png').read_bytes())
    (folder / 'a.pgw').write_text('0.5\n0\n0\n-0.5\n1000\n5000\n')
    both = []
    for name, options in (('pixels', dict()), ('map', dict(world_files=True))):
        predict(model, folder, tmp_path / name, score=SCORE, polygons=True, **options)
        content = json.loads((tmp_path / name / 'polygons.geojson').read_text())
        both.append([shape(feature['geometry']) for feature in content['features']])
    assert both[0] and any(not polygon.is_empty for polygon in both[0])
    for pixel, place in zip(*both):
        if pixel.is_empty:
            continue
        x1, y1, x2, y2 = pixel.bounds
        expected = [999.75 + x1 / 2, 5000.25 - y2 / 2, 999.75 + x2 / 2, 5000.25 - y1 / 2]
        np.testing.assert_allclose(place.bounds, expected)
        assert place.area == pytest.approx(pixel.area / 4) and place.is_valid
        # RFC 7946: outer rings counterclockwise
        assert all(part.exterior.is_ccw for part in place.geoms)


def test_world_files(tmp_path: Path) -> None:
    picture = tmp_path / 'a.TIF'
    with pytest.raises(FileNotFoundError, match=r'no world file beside it \(.tfw, .tifw, .wld\)'):
        read_world_file(picture)
    (tmp_path / 'a.wld').write_text('2 0.5\n-0.25 -3\n10 20')
    a, b, d, e, x, y = read_world_file(picture)
    assert (a, b, d, e) == (2, -0.25, 0.5, -3)
    assert (a * 0.5 + b * 0.5 + x, d * 0.5 + e * 0.5 + y) == (10, 20)
    (tmp_path / 'a.tfw').write_text('1 2 3')
    with pytest.raises(ValueError, match='expected six numbers'):
        read_world_file(picture)
    (tmp_path / 'a.tfw').write_text('1 1 1 1 0 0')
    with pytest.raises(ValueError, match='on one line'):
        read_world_file(picture)


def test_missing_world_files_are_told_before_anything_runs(
    model: torch.nn.Module, pictures: Path, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match='no world file'):
        predict(model, pictures, tmp_path / 'out', polygons=True, world_files=True)
    assert not (tmp_path / 'out').exists()
