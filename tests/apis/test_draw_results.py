"""Pictures of a test's results from the command line."""

import json
import pickle
from pathlib import Path

import cv2
import mmengine
import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from mmrefine.apis.dump_pictures import picture_names
from tools.draw_results import main

TRIANGLE = [4.0, 4.0, 20.0, 4.0, 4.0, 20.0]
FILES = ('a/0001.png', 'b/0001.png', 'b/0002.png')


def predictions(**changes: object) -> dict:
    """One detection: the upper left quarter."""
    mask = np.zeros((30, 40), np.uint8)
    mask[:15, :20] = 1
    return {
        'bboxes': torch.tensor([[0.0, 0.0, 20.0, 15.0]]),
        'scores': torch.tensor([0.9]),
        'labels': torch.tensor([0]),
        'masks': [coco_mask.encode(np.asfortranarray(mask))],
        **changes,
    }


def dump(path: Path, **changes: object) -> Path:
    """Write the results of all pictures."""
    pred = {key: value for key, value in predictions(**changes).items() if value is not None}
    samples = [{'img_id': i, 'ori_shape': (30, 40), 'pred_instances': pred} for i in (1, 2, 3)]
    # As DumpDetResults writes it: protocol 2.
    mmengine.dump(samples, path)
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A config that tests three pictures with a triangle each."""
    for name in FILES:
        file = tmp_path / 'data' / name
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), np.full((30, 40, 3), 90, np.uint8))
    truth = {
        'images': [
            {'id': i, 'file_name': name, 'width': 40, 'height': 30}
            for i, name in enumerate(FILES, start=1)
        ],
        'annotations': [
            {
                'id': i,
                'image_id': i,
                'category_id': 1,
                'bbox': [4, 4, 16, 16],
                'area': 128,
                'iscrowd': 0,
                # The short polygon is left out in training.
                'segmentation': [TRIANGLE, TRIANGLE[:4]],
            }
            for i in (1, 2, 3)
        ],
        'categories': [{'id': 1, 'name': 'dog'}],
    }
    (tmp_path / 'truth.json').write_text(json.dumps(truth))
    path = tmp_path / 'config.py'
    path.write_text(
        "test_dataloader = dict(dataset=dict(type='CocoDataset', ann_file='truth.json', "
        f"data_root='{tmp_path}', data_prefix=dict(img='data/'), test_mode=True, "
        "metainfo=dict(classes=('dog',))))\n"
    )
    return path


def words(config: Path, results: Path, out: Path) -> list[str]:
    return [str(config), str(results), str(out)]


def test_every_picture_has_a_file(config, tmp_path, capsys):
    assert main(words(config, dump(tmp_path / 'results.pkl'), tmp_path / 'out')) == 0
    names = sorted(path.name for path in (tmp_path / 'out').iterdir())
    assert names == ['0001_1.jpg', '0001_2.jpg', '0002.jpg', 'sheet.jpg']
    assert '3 pictures and sheet.jpg' in capsys.readouterr().out
    picture = cv2.imread(str(tmp_path / 'out' / '0002.jpg'))
    assert picture.shape == (2 * 30 + 18, 2 * 2 * 40 + 4, 3)
    left, right = picture[18:, :80], picture[18:, 84:]
    # Row and column: in the triangle alone, in the predicted mask alone, in neither.
    for place, drawn in (((17, 5), (1, 0)), ((2, 2), (0, 1)), ((28, 38), (0, 0))):
        row, column = 2 * place[0], 2 * place[1]
        apart = [np.abs(panel[row, column].astype(int) - 90).max() > 8 for panel in (left, right)]
        assert tuple(apart) == drawn


def test_photos_are_not_doubled_and_their_sheet_is_small(config, tmp_path, capsys):
    for name in FILES:
        cv2.imwrite(str(tmp_path / 'data' / name), np.full((900, 1200, 3), 90, np.uint8))
    mask = np.zeros((900, 1200), np.uint8)
    mask[:450, :600] = 1
    rle = coco_mask.encode(np.asfortranarray(mask))
    results = dump(tmp_path / 'results.pkl', masks=[rle])
    assert main(words(config, results, tmp_path / 'out')) == 0
    assert cv2.imread(str(tmp_path / 'out' / '0002.jpg')).shape == (900 + 32, 2 * 1200 + 4, 3)
    assert cv2.imread(str(tmp_path / 'out' / 'sheet.jpg')).shape[1] == 2 * (1600 + 8)
    assert main([*words(config, results, tmp_path / 'twice'), '--scale', '2', '--num', '1']) == 0
    assert cv2.imread(str(tmp_path / 'twice' / '0001.jpg')).shape[1] == 4 * 1200 + 4


def test_large_photos_and_their_sheet_stay_bounded(config, tmp_path, capsys):
    """A photo of 24 megapixels, one of a panorama: panels of 4,096 pixels, a sheet of 1,600."""
    for name, size in zip(FILES, ((4000, 6000), (600, 6000), (6000, 600))):
        cv2.imwrite(str(tmp_path / 'data' / name), np.full((*size, 3), 90, np.uint8))
    samples = []
    for i, size in enumerate(((4000, 6000), (600, 6000), (6000, 600)), start=1):
        mask = np.zeros(size, np.uint8)
        mask[: size[0] // 2, : size[1] // 2] = 1
        rle = coco_mask.encode(np.asfortranarray(mask))
        pred = predictions(masks=[rle])
        samples.append({'img_id': i, 'ori_shape': size, 'pred_instances': pred})
    mmengine.dump(samples, tmp_path / 'results.pkl')
    assert main(words(config, tmp_path / 'results.pkl', tmp_path / 'out')) == 0
    for name in ('0001_1.jpg', '0001_2.jpg', '0002.jpg'):
        height, width = cv2.imread(str(tmp_path / 'out' / name)).shape[:2]
        assert height <= 4096 + 150 and width <= 2 * 4096 + 4
    assert max(cv2.imread(str(tmp_path / 'out' / 'sheet.jpg')).shape) <= 2 * (1600 + 8)


def test_pictures_without_anything_are_passed_over(config, tmp_path, capsys):
    file = tmp_path / 'truth.json'
    truth = json.loads(file.read_text())
    file.write_text(json.dumps({**truth, 'annotations': truth['annotations'][2:]}))
    results = dump(tmp_path / 'results.pkl')
    assert main([*words(config, results, tmp_path / 'out'), '--score', '0.95']) == 0
    assert {path.name for path in (tmp_path / 'out').iterdir()} == {'0002.jpg', 'sheet.jpg'}
    file.write_text(json.dumps({**truth, 'annotations': []}))
    assert main([*words(config, results, tmp_path / 'out'), '--score', '0.95']) == 1
    assert 'with an object, or with a score of 0.95 or more' in capsys.readouterr().err


def test_a_threshold_that_nothing_reaches_is_said(config, tmp_path, monkeypatch):
    said = []
    target = 'mmrefine.apis.dump_pictures.log_warning'
    monkeypatch.setattr(target, said.append)
    results = dump(tmp_path / 'results.pkl')
    assert main([*words(config, results, tmp_path / 'out'), '--score', '0.8']) == 0
    assert not said
    assert main([*words(config, results, tmp_path / 'none'), '--score', '0.95']) == 0
    assert 'score of 0.95 or more' in said[0]
    results = dump(tmp_path / 'half.pkl', scores=torch.tensor([0.5]))
    assert main([*words(config, results, tmp_path / 'half'), '--score', '0.5']) == 0
    assert len(said) == 1


def wrapped(config: Path, kind: str) -> Path:
    """The config with its data set in another one, or twice."""
    part = 'test_dataloader["dataset"]'
    inner = f'datasets=[{part}, {part}]' if kind == 'ConcatDataset' else f'dataset={part}, times=2'
    lines = config.read_text() + f'test_dataloader = dict(dataset=dict(type={kind!r}, {inner}))\n'
    config.with_name('wrapped.py').write_text(lines)
    return config.with_name('wrapped.py')


@pytest.mark.parametrize('kind', ['ConcatDataset', 'RepeatDataset'])
def test_sets_in_others_are_drawn(config, tmp_path, kind):
    results = dump(tmp_path / 'results.pkl')
    assert main(words(wrapped(config, kind), results, tmp_path / 'out')) == 0
    names = sorted(path.name for path in (tmp_path / 'out').iterdir())
    assert names == ['0001_1.jpg', '0001_2.jpg', '0002.jpg', 'sheet.jpg']


def test_pictures_of_one_id_are_refused(config, tmp_path, capsys):
    text = config.read_text()
    other = text.replace('test_dataloader', 'other').replace("'data/'", "'data/b/'")
    both = 'datasets=[test_dataloader["dataset"], other["dataset"]]'
    config.write_text(
        f'{text}{other}test_dataloader = dict(dataset=dict(type="ConcatDataset", {both}))\n'
    )
    assert main(words(config, dump(tmp_path / 'results.pkl'), tmp_path / 'out')) == 1
    assert 'two pictures of the id 1' in capsys.readouterr().err


@pytest.mark.parametrize('annotated', [(), (2,)])
def test_pictures_without_objects_show_what_is_predicted(config, tmp_path, annotated):
    truth = json.loads((tmp_path / 'truth.json').read_text())
    truth['annotations'] = [a for a in truth['annotations'] if a['image_id'] in annotated]
    (tmp_path / 'truth.json').write_text(json.dumps(truth))
    assert main(words(config, dump(tmp_path / 'results.pkl'), tmp_path / 'out')) == 0
    names = sorted(path.name for path in (tmp_path / 'out').iterdir())
    assert names == ['0001_1.jpg', '0001_2.jpg', '0002.jpg', 'sheet.jpg']
    picture = cv2.imread(str(tmp_path / 'out' / '0002.jpg'))
    left, right = picture[18:, :80], picture[18:, 84:]
    apart = [np.abs(panel[4, 4].astype(int) - 90).max() > 8 for panel in (left, right)]
    assert apart == [False, True]


def test_names_stay_short_where_they_are_unique():
    infos = [
        {'img_path': path, 'img_id': number}
        for number, path in enumerate(('a/x.png', 'a/x.jpg', 'a/x_0.png', 'a/sheet.png', 'y.jpg'))
    ]
    assert picture_names(infos) == ['x_0_.jpg', 'x_1.jpg', 'x_0.jpg', 'sheet_3.jpg', 'y.jpg']


@pytest.mark.parametrize(
    ('changes', 'reason'),
    [
        ({'masks': None}, 'no predicted masks'),
        ({'scores': None}, 'no predicted scores'),
        ({'labels': torch.tensor([4])}, 'label 4, but the config has 1 classes'),
        ({'masks': [{'size': [9, 9], 'counts': b'o'}]}, 'size'),
    ],
)
def test_results_that_cannot_be_drawn_are_named(config, tmp_path, capsys, changes, reason):
    results = dump(tmp_path / 'results.pkl', **changes)
    assert main(words(config, results, tmp_path / 'out')) == 1
    said = capsys.readouterr().err
    assert said.startswith(f'draw_results: {results}: image 1') and reason in said


def test_files_of_another_kind_are_named(config, tmp_path, capsys):
    results = dump(tmp_path / 'results.pkl')
    (tmp_path / 'results.json').write_text('[{"image_id": 1}]')
    (tmp_path / 'empty.py').write_text('lr = 0.1')
    (tmp_path / 'broken.py').write_text('model = dict(')
    for first, second, named in (
        (tmp_path / 'missing.py', results, 'missing.py'),
        (tmp_path / 'empty.py', results, 'empty.py has no test_dataloader'),
        (tmp_path / 'broken.py', results, 'broken.py is no config'),
        (config, tmp_path / 'missing.pkl', 'missing.pkl'),
        (config, tmp_path / 'results.json', 'results.json cannot be read as a dump'),
    ):
        assert main(words(first, second, tmp_path / 'out')) == 1
        assert named in capsys.readouterr().err


def test_a_pickle_is_not_executed(config, tmp_path, capsys):
    (tmp_path / 'results.pkl').write_bytes(pickle.dumps(print))
    assert main(words(config, tmp_path / 'results.pkl', tmp_path / 'out')) == 1
    assert 'could run code' in capsys.readouterr().err


def test_what_was_not_written_is_an_error(config, tmp_path, capsys):
    results = dump(tmp_path / 'results.pkl')
    (tmp_path / 'out' / '0002.jpg').mkdir(parents=True)
    assert main(words(config, results, tmp_path / 'out')) == 1
    assert f"Is a directory: '{tmp_path}/out/0002.jpg'" in capsys.readouterr().err
    assert main(words(config, results, results)) == 1
    assert 'results.pkl' in capsys.readouterr().err


def test_pictures_of_the_data_set_are_kept(config, tmp_path, capsys):
    before = (tmp_path / 'data' / 'b' / '0002.png').read_bytes()
    results = dump(tmp_path / 'results.pkl')
    assert main(words(config, results, tmp_path / 'data' / 'b')) == 1
    assert 'holds pictures of the data set' in capsys.readouterr().err
    assert (tmp_path / 'data' / 'b' / '0002.png').read_bytes() == before


def test_pictures_beyond_the_limits_of_opencv_are_one_sentence(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def refuse(*args: object) -> None:
        raise cv2.error('pixels <= CV_IO_MAX_IMAGE_PIXELS')

    for reader in ('imread', 'imdecode'):
        monkeypatch.setattr(cv2, reader, refuse)
    results = dump(tmp_path / 'results.pkl')
    assert main(words(config, results, tmp_path / 'out')) == 1
    assert 'a/0001.png cannot be read' in capsys.readouterr().err
