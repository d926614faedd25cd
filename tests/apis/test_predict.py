"""Pictures in, drawn pictures and results out; every way a user can go wrong."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from locations import ROOT
from mmdet.apis import inference_detector
from mmdet.registry import MODELS
from mmengine.config import Config
from PIL import Image
from pycocotools import mask as coco_mask

from mmrefine.apis import inputs
from mmrefine.apis.inputs import find_inputs, read_picture
from mmrefine.apis.load_model import load_model
from mmrefine.apis.predict import predict
from mmrefine.apis.predict_video import predict_video
from mmrefine.evaluation import evaluate
from mmrefine.results.detections import load_results
from mmrefine.results.ground_truth import GroundTruth

CONFIG = ROOT / 'configs' / 'refinemask' / 'refinemask_tiny_fruit-nuts.py'
CLASSES = ('date', 'fig', 'hazelnut')
SCORE = 0.25  # of random weights, a handful of objects


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, kept by their seed."""
    path = tmp_path_factory.mktemp('weights') / 'weights.pth'
    torch.manual_seed(3)
    model = MODELS.build(Config.fromfile(CONFIG).model)
    model.init_weights()
    torch.save(
        {'state_dict': model.state_dict(), 'meta': {'dataset_meta': {'classes': CLASSES}}}, path
    )
    return path


@pytest.fixture(scope='module')
def model(checkpoint: Path) -> torch.nn.Module:
    return load_model(CONFIG, checkpoint)


def photo(path: Path, size: tuple[int, int] = (96, 128), seed: int = 0) -> Path:
    """Smooth noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), np.uint8)
    content = cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC)
    cv2.imencode(path.suffix, content)[1].tofile(path)
    return path


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
    ],
)
def test_options_that_make_no_sense_are_refused(
    model: torch.nn.Module, tmp_path: Path, options: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        predict(model, photo(tmp_path / 'a.png'), tmp_path / 'out', **options)
    assert not (tmp_path / 'out').exists()


def test_a_picture_beyond_the_limits_of_opencv_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise cv2.error('pixels <= CV_IO_MAX_IMAGE_PIXELS')

    path = photo(tmp_path / 'a.png')
    monkeypatch.setattr(cv2, 'imdecode', refuse)
    with pytest.raises(ValueError, match='a.png cannot be read .*OPENCV_IO_MAX_IMAGE'):
        read_picture(path)


@pytest.mark.parametrize('kind', ['grey', 'alpha', '16 bit', 'cmyk', 'exif'])
def test_pictures_of_every_kind_are_read_upright_in_colour(tmp_path: Path, kind: str) -> None:
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:, :30], pixels[:, 30:] = (200, 30, 40), (20, 60, 180)
    path = tmp_path / ('a.jpg' if kind in ('cmyk', 'exif') else 'a.png')
    picture = Image.fromarray(pixels)
    if kind == 'grey':
        picture.convert('L').save(path)
    elif kind == 'alpha':
        picture.putalpha(0)
        picture.save(path)
    elif kind == '16 bit':
        cv2.imwrite(str(path), pixels[..., ::-1].astype(np.uint16) * 257)
    elif kind == 'cmyk':
        picture.convert('CMYK').save(path, quality=95)
    else:
        exif = picture.getexif()
        exif[0x112] = 6  # turn clockwise to show
        picture.save(path, exif=exif, quality=95)
    found = read_picture(path)
    expected = np.rot90(pixels, -1) if kind == 'exif' else pixels
    if kind == 'grey':
        expected = np.asarray(picture.convert('L'))[..., None].repeat(3, 2)
    assert found.shape == expected.shape
    assert np.abs(found[..., ::-1].astype(int) - expected).mean() < 3


def test_inputs_are_found_in_folders_patterns_and_lists(tmp_path: Path) -> None:
    files = [photo(tmp_path / name) for name in ('a.png', 'b/a.png', 'b/c d.jpg', 'b/ü.bmp')]
    (tmp_path / 'clip.mp4').write_bytes(b'')
    (tmp_path / 'list.txt').write_text('a.png\nb/a.png\n')
    pictures, videos = find_inputs([tmp_path])
    assert [p.path for p in pictures] == files and videos == [tmp_path / 'clip.mp4']
    assert [p.name.as_posix() for p in pictures] == ['a', 'b/a', 'b/c d', 'b/ü']
    pictures, _ = find_inputs([tmp_path / 'list.txt'])
    assert [p.name.as_posix() for p in pictures] == ['a', 'a_2']
    pictures, _ = find_inputs([f'{tmp_path}/b/*.[jb][pm][gp]', tmp_path / 'b' / 'c d.jpg'])
    assert [p.path for p in pictures] == files[2:]


def test_what_inputs_leave_out_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(inputs, 'log_warning', told.append)
    photo(tmp_path / 'in' / 'a.png')
    assert find_inputs([tmp_path / 'in', f'{tmp_path}/*/*.png']) and told == []
    for name in ('b.jfif', 'c.txt', 'd', 'e.json'):
        (tmp_path / 'in' / name).write_bytes(b'')
    find_inputs([tmp_path / 'in'])
    assert 'neither pictures nor videos' in told[0] and 'b.jfif' in told[0]
    assert told.pop().endswith('and 1 more')
    photo(tmp_path / 'in' / 'sub' / 'b.png')
    find_inputs([f'{tmp_path}/in/[as]*'])
    assert 'matches folders' in told[0] and told.pop().endswith('sub')
    find_inputs([f'{tmp_path}/**/*.png'])
    pages = [Image.new('RGB', (9, 9), colour) for colour in ('red', 'blue')]
    pages[0].save(tmp_path / 'p.tif', save_all=True, append_images=pages[1:])
    assert told == [] and find_inputs([tmp_path / 'p.tif'])
    assert 'only the first page is read of' in told[0] and told[0].endswith('p.tif')


@pytest.mark.parametrize(
    ('given', 'message'),
    [('nowhere.jpg', 'there is no nowhere.jpg'), ('*.nothing', 'no file matches')],
)
def test_inputs_that_lead_nowhere(given: str, message: str) -> None:
    with pytest.raises(FileNotFoundError, match=message):
        find_inputs([given])


def test_folders_and_lists_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match='holds no pictures'):
        find_inputs([tmp_path])
    (tmp_path / 'list.txt').write_text('a.png\n')
    with pytest.raises(FileNotFoundError, match='of which 1 do not exist'):
        find_inputs([tmp_path / 'list.txt'])


def test_videos_are_drawn_frame_by_frame(model: torch.nn.Module, tmp_path: Path) -> None:
    frames = [cv2.imread(str(photo(tmp_path / f'{i}.png', seed=i))) for i in range(4)]
    clip = cv2.VideoWriter(str(tmp_path / 'in.avi'), cv2.VideoWriter.fourcc(*'MJPG'), 10, (128, 96))
    for frame in frames:
        clip.write(frame)
    clip.release()
    with pytest.raises(ValueError, match='in.avi is also --video'):
        predict_video(model, tmp_path / 'in.avi', tmp_path / 'in.avi', SCORE)
    run = predict_video(model, tmp_path / 'in.avi', tmp_path / 'out.mp4', SCORE)
    assert run.frames == 4 and not run.tracked and sum(run.objects.values()) > 0
    result = cv2.VideoCapture(str(tmp_path / 'out.mp4'))
    assert int(result.get(cv2.CAP_PROP_FRAME_COUNT)) == 4


def test_the_command_from_another_folder_with_relative_paths(
    checkpoint: Path, tmp_path: Path, command: Callable
) -> None:
    photo(tmp_path / 'süße Fotos' / 'a.png')
    (tmp_path / 'süße Fotos' / 'b.png').write_bytes(b'x')
    (tmp_path / 'w.pth').write_bytes(checkpoint.read_bytes())
    files = ['--config', CONFIG, '--checkpoint', 'w.pth', '--out', 'out', '--score', SCORE]
    done = command('predict', 'süße Fotos', *files, folder=tmp_path)
    assert done.status == 1 and 'left out: süße Fotos/b.png' in done.err
    first, classes, where = done.out.splitlines()  # and nothing that MMEngine prints
    assert first.endswith('objects on 1 pictures') and 'out: pictures/' in where and classes
    assert (tmp_path / 'out' / 'pictures' / 'a.jpg').is_file()


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'--checkpoint': 'nowhere.pth'}, 'nowhere.pth'),
        ({'--config': 'nowhere.py'}, 'nowhere.py'),
        ({'--device': 'tpu'}, "'tpu' is no device"),
        ({'--config': 'configs/sipmask/sipmask_tiny_shapes.py'}, 'of another model'),
        ({'--classes': 'cat'}, "no class 'cat'"),
    ],
)
def test_mistakes_end_in_one_sentence(
    checkpoint: Path, tmp_path: Path, command: Callable, changes: dict, message: str
) -> None:
    path = photo(tmp_path / 'a.png')
    options = {'--config': CONFIG, '--checkpoint': checkpoint, '--out': tmp_path / 'out'}
    done = command('predict', path, *(x for pair in (options | changes).items() for x in pair))
    assert done.status == 1
    assert done.err.splitlines()[-1].startswith('predict: ') and message in done.err


def test_a_threshold_that_removes_everything_says_so(
    checkpoint: Path, tmp_path: Path, command: Callable
) -> None:
    path = photo(tmp_path / 'a.png')
    options = ('--config', CONFIG, '--checkpoint', checkpoint, '--out', tmp_path / 'out')
    done = command('predict', path, *options, '--score', 0.99)
    assert done.status == 0 and 'try a lower --score' in done.out


def clip(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), 10, (128, 96))
    for seed in range(2):
        writer.write(cv2.imread(str(photo(path.parent / 'frames' / 'f.png', seed=seed))))
    writer.release()
    return path


def test_videos_of_one_name_are_refused(
    checkpoint: Path, tmp_path: Path, command: Callable
) -> None:
    videos = [clip(tmp_path / folder / 'v.avi') for folder in 'ab']
    options = ('--config', CONFIG, '--checkpoint', checkpoint, '--out', tmp_path / 'out')
    done = command('predict', *videos, *options)
    assert done.status == 1 and '2 videos are called v' in done.err


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        (['--views', '1', '2'], '--views is for pictures'),
        (['--crops', '--no-pictures'], '--crops and --no-pictures are for pictures'),
        (['--out', 'IN'], 'where results are written'),
    ],
)
def test_a_video_gets_what_was_asked_for(
    checkpoint: Path, tmp_path: Path, command: Callable, given: list[str], message: str
) -> None:
    video = clip(tmp_path / 'videos' / 'v.avi')
    options = ['--config', CONFIG, '--checkpoint', checkpoint, '--out', tmp_path / 'out']
    given = [str(tmp_path) if word == 'IN' else word for word in given]
    done = command('predict', video, *options, *given)
    assert done.status == 1 and message in done.err


def test_sipmask_vis_tracks_videos_and_refuses_pictures(tmp_path: Path, command: Callable) -> None:
    config = ROOT / 'configs' / 'sipmask' / 'sipmask-vis_tiny_shapes.py'
    model = MODELS.build(Config.fromfile(config).model)
    model.init_weights()
    weights = tmp_path / 'vis.pth'
    torch.save({'state_dict': model.state_dict()}, weights)
    options = ('--config', config, '--checkpoint', weights, '--out', tmp_path / 'out')
    video = clip(tmp_path / 'v.avi')
    done = command('predict', video, *options, '--score', 0)
    assert done.status == 0 and 'v.mp4: 2 frames, objects:' in done.out
    assert (tmp_path / 'out' / 'videos' / 'v.json').is_file()
    done = command('predict', video, photo(tmp_path / 'a.png'), *options)
    assert done.status == 1 and 'a.png is a picture' in done.err
    done = command('predict', video, *options, '--classes', 'cat')
    assert done.status == 1 and "no class 'cat'" in done.err
