"""Faulty and unusual annotations: a clear error or the right result."""

import copy
import functools
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from locations import ROOT
from mmcv.transforms import LoadImageFromFile
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from PIL import Image
from pycocotools import mask as coco_mask

from mmrefine.datasets.annotation_check import check_annotations, check_images, read_annotations

TRIANGLE = [4.0, 4.0, 20.0, 4.0, 4.0, 20.0]
PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='Resize', scale_factor=1.0),
    dict(type='RandomFlip', prob=1.0),
    dict(type='PackDetInputs'),
]


def content() -> dict:
    """Two pictures of 40 x 30 pixels with a triangle in the first."""
    images = [{'id': k, 'file_name': f'{k}.png', 'width': 40, 'height': 30} for k in (1, 2)]
    return {
        'images': images,
        'annotations': [annotation(id=1)],
        'categories': [{'id': 7, 'name': 'dog'}, {'id': 3, 'name': 'cat'}],
    }


def annotation(**changes: object) -> dict:
    return {
        'id': 2,
        'image_id': 1,
        'category_id': 7,
        'bbox': [4.0, 4.0, 16.0, 16.0],
        'area': 128.0,
        'iscrowd': 0,
        'segmentation': [TRIANGLE],
        **changes,
    }


def build(folder: Path, data: dict | str, classes=('dog', 'cat'), sizes=(), **settings):
    """Write pictures and annotations, and build the data set over them."""
    text = data if isinstance(data, str) else json.dumps(data)
    (folder / 'truth.json').write_text(text)
    for image in [] if isinstance(data, str) else data['images']:
        size = (image['height'], image['width'], 3)
        cv2.imwrite(str(folder / image['file_name']), np.full(size, 90, np.uint8))
    return DATASETS.build(
        dict(
            type='CheckedCocoDataset',
            data_root=str(folder),
            ann_file='truth.json',
            data_prefix=dict(img=''),
            metainfo=dict(classes=classes),
            pipeline=PIPELINE,
            **settings,
        )
    )


def samples(dataset) -> list:
    return [dataset[index]['data_samples'] for index in range(len(dataset))]


def test_sound_annotations_have_no_problems(tmp_path) -> None:
    assert check_annotations(content(), ('dog', 'cat')) == []
    first, second = samples(build(tmp_path, content(), strict=True))
    assert first.gt_instances.masks.masks.sum() == pytest.approx(128, abs=20)
    assert len(second.gt_instances) == 0


def test_images_without_objects_are_kept_or_left_out_as_asked(tmp_path) -> None:
    kept = samples(build(tmp_path, content(), filter_cfg=dict(filter_empty_gt=False)))
    assert [len(sample.gt_instances) for sample in kept] == [1, 0]
    assert kept[1].gt_instances.masks.masks.shape == (0, 30, 40)
    assert len(build(tmp_path, content(), filter_cfg=dict(filter_empty_gt=True))) == 1


def test_a_file_without_any_object_loads(tmp_path) -> None:
    data = {**content(), 'annotations': []}
    for _ in range(2):
        found = samples(build(tmp_path, data, test_mode=True))
        assert [len(s.gt_instances) for s in found] == [0, 0]
        data.pop('annotations', None)  # as of COCO's image_info_test-dev2017.json
    with pytest.raises(ValueError, match='has no "annotations"'):
        build(tmp_path, data)


def test_crowds_are_ignored_not_learned(tmp_path) -> None:
    crowd = coco_mask.encode(np.asfortranarray(np.ones((30, 40), np.uint8)))
    crowd = {'size': [30, 40], 'counts': crowd['counts'].decode()}
    data = content()
    box = [0.0, 0.0, 40.0, 30.0]
    data['annotations'].append(annotation(iscrowd=1, segmentation=crowd, bbox=box, area=1200.0))
    first, _ = samples(build(tmp_path, data))
    assert len(first.gt_instances) == 1
    assert first.ignored_instances.bboxes.tensor.tolist() == [box]


FAULTS = {
    'empty box': (annotation(bbox=[4.0, 4.0, 0.0, 16.0]), 'less than a pixel'),
    'no area': (annotation(area=0), 'without area'),
    'outside': (annotation(bbox=[50.0, 4.0, 16.0, 16.0]), 'outside their image'),
    'two points': (annotation(segmentation=[[4.0, 4.0, 20.0, 4.0]]), 'fewer than 3 points'),
    'odd numbers': (annotation(segmentation=[[*TRIANGLE, 9.0]]), 'fewer than 3 points'),
}


@pytest.mark.parametrize('name', FAULTS)
def test_degenerate_objects_are_reported_and_left_out(name, tmp_path, caplog) -> None:
    fault, text = FAULTS[name]
    data = content()
    data['annotations'].append(fault)
    problems = check_annotations(data)
    assert [(text in problem.text, problem.ids, problem.fatal) for problem in problems] == [
        (True, (2,), False)
    ]
    first, _ = samples(build(tmp_path, data))
    assert first.gt_instances.bboxes.tensor.tolist() == [[20.0, 4.0, 36.0, 20.0]]
    with pytest.raises(ValueError, match=text):
        build(tmp_path, data, strict=True)


BROKEN = {
    'class id out of range': (annotation(category_id=99), 'category_id the file does not list'),
    'unknown image': (annotation(image_id=5), 'images that the file does not list'),
    'same id twice': (annotation(id=1), 'annotation ids that occur twice'),
    'no box': ({k: v for k, v in annotation().items() if k != 'bbox'}, 'without a box'),
    'NaN box': (annotation(bbox=[4.0, float('nan'), 16.0, 16.0]), 'finite numbers'),
    'no area field': ({k: v for k, v in annotation().items() if k != 'area'}, 'without an area'),
    'area null': (annotation(area=None), 'without an area'),
    'area NaN': (annotation(area=float('nan')), 'without an area'),
    'area text': (annotation(area='128'), 'without an area'),
    'points': (annotation(segmentation=[[[4, 4], [20, 4], [4, 20]]]), 'flat list'),
    'six points': (annotation(segmentation=[[[4, 4], [20, 4], [4, 20]] * 2]), 'flat list'),
    'polygon not in a list': (annotation(segmentation=TRIANGLE), 'flat list'),
    'mask text': (annotation(segmentation='1 2 3'), 'flat list'),
    'NaN point': (annotation(segmentation=[[float('nan'), *TRIANGLE[1:]]]), 'finite numbers'),
    'RLE of no size': (
        annotation(segmentation={'size': None, 'counts': [0, 1200]}),
        'run lengths of another size',
    ),
    'RLE of another size': (
        annotation(segmentation={'size': [40, 30], 'counts': [0, 1200]}),
        'run lengths of another size',
    ),
}


@pytest.mark.parametrize('name', BROKEN)
def test_broken_records_are_refused_with_their_ids(name, tmp_path) -> None:
    fault, text = BROKEN[name]
    data = content()
    data['annotations'].append(fault)
    with pytest.raises(ValueError, match=text) as caught:
        build(tmp_path, data)
    assert 'truth.json' in str(caught.value)
    assert f': {fault["id"]})' in str(caught.value)


@pytest.mark.parametrize(
    'fault', [{'file_name': None}, {'file_name': 7}, {'width': None}, {'height': '30'}]
)
def test_images_without_name_or_size_are_named(fault) -> None:
    data = content()
    data['images'][1].update(fault)
    problem = check_annotations(data)[0]
    assert ('without file_name' in problem.text, problem.ids, problem.fatal) == (True, (2,), True)


def test_classes_that_the_file_lacks_are_refused(tmp_path) -> None:
    """The stock class would give 'zebra' the label of 'cat'."""
    with pytest.raises(ValueError, match='zebra'):
        build(tmp_path, content(), classes=('dog', 'zebra', 'cat'))


def test_repeated_images_and_categories_are_refused(tmp_path) -> None:
    for key in ('images', 'categories'):
        data = content()
        data[key].append(copy.copy(data[key][0]))
        with pytest.raises(ValueError, match='twice'):
            build(tmp_path, data)


def test_a_file_listed_as_two_images_is_refused(tmp_path) -> None:
    data = content()
    data['images'][1]['file_name'] = '1.png'
    with pytest.raises(ValueError, match=r'files listed as several images.* \(1: 1\.png\)'):
        build(tmp_path, data)


@pytest.mark.parametrize('text', ['', '{"images": [', '[]', '{"images": []}', '\x00\x01'])
def test_broken_files_are_named(text, tmp_path) -> None:
    with pytest.raises(ValueError, match='truth.json'):
        build(tmp_path, text)


def test_a_missing_file_is_named(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match='nowhere.json'):
        read_annotations(tmp_path / 'nowhere.json')


def test_a_missing_set_of_shapes_says_how_to_make_it(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv('MMREFINE_SHAPES', str(tmp_path / 'nowhere'))
    for name in ('refinemask/refinemask_tiny_shapes.py', 'sharpmask/deepmask_tiny_shapes.py'):
        config = Config.fromfile(ROOT / 'configs' / name)
        said = 'nowhere/annotations/.*: python tools/make_shapes.py .*MMREFINE_SHAPES'
        for loader in (config.train_dataloader, config.val_dataloader):
            with pytest.raises(FileNotFoundError, match=said):
                DATASETS.build(loader.dataset)
    monkeypatch.setenv('MMREFINE_NUCLEI', str(tmp_path / 'nowhere'))
    config = Config.fromfile(ROOT / 'configs' / 'refinemask' / 'refinemask_tiny_nuclei.py')
    with pytest.raises(FileNotFoundError, match=r'nowhere/.*: docs/learning\.md names the source'):
        DATASETS.build(config.train_dataloader.dataset)
    assert 'MMREFINE_NUCLEI' in (ROOT / 'docs' / 'learning.md').read_text()


def test_run_lengths_and_polygons_may_be_mixed(tmp_path) -> None:
    mask = np.zeros((30, 40), np.uint8)
    mask[10:20, 5:25] = 1
    mask[13:16, 8:12] = 0
    packed = coco_mask.encode(np.asfortranarray(mask))
    runs = [
        len(list(run))
        for run in np.split(mask.T.ravel(), np.flatnonzero(np.diff(mask.T.ravel())) + 1)
    ]
    data = content()
    shared = dict(bbox=[5.0, 10.0, 20.0, 10.0], area=188.0)
    data['annotations'] += [
        annotation(
            id=2, segmentation={'size': [30, 40], 'counts': packed['counts'].decode()}, **shared
        ),
        annotation(id=3, segmentation={'size': [30, 40], 'counts': runs}, **shared),
    ]
    first, _ = samples(build(tmp_path, data, strict=True))
    masks = first.gt_instances.masks.masks
    assert len(masks) == 3
    np.testing.assert_array_equal(masks[1], mask[:, ::-1])
    np.testing.assert_array_equal(masks[2], mask[:, ::-1])


def test_boxes_that_stick_out_keep_their_masks(tmp_path) -> None:
    data = content()
    data['annotations'] = [annotation(bbox=[-8.0, 4.0, 28.0, 40.0])]
    first, _ = samples(build(tmp_path, data, strict=True))
    assert first.gt_instances.masks.masks.any()


@pytest.mark.parametrize(('height', 'width'), [(1, 1), (5000, 3750), (5000, 5000)])
def test_tiny_and_huge_pictures_pass_the_pipeline(height, width, tmp_path) -> None:
    data = content()
    data['images'] = [{'id': 1, 'file_name': '1.png', 'width': width, 'height': height}]
    whole = {'size': [height, width], 'counts': [0, height * width]}
    box = [0.0, 0.0, float(width), float(height)]
    data['annotations'] = [annotation(segmentation=whole, bbox=box, area=height * width)]
    dataset = build(tmp_path, data, strict=True)
    dataset.pipeline.transforms[2] = dataset.pipeline.transforms[2].__class__(
        scale=(1333, 800), keep_ratio=True
    )
    packed = dataset[0]
    truth = packed['data_samples'].gt_instances
    high, wide = packed['inputs'].shape[1:]
    assert min(high, wide) >= 1
    assert truth.bboxes.tensor.tolist() == [[0.0, 0.0, float(wide), float(high)]]
    assert truth.masks.masks.all()
    padder = MODELS.build(dict(type='DetDataPreprocessor', pad_mask=True, pad_size_divisor=32))
    batch = padder(dict(inputs=[packed['inputs']], data_samples=[packed['data_samples']]))
    assert batch['inputs'].shape[2] % 32 == batch['inputs'].shape[3] % 32 == 0


@pytest.fixture
def check(command: Callable) -> Callable:
    return functools.partial(command, 'check_annotations')


def test_the_command_lists_problems(tmp_path, check) -> None:
    data = content()
    data['annotations'] += [annotation(id=2, category_id=99), FAULTS['outside'][0] | {'id': 3}]
    data['images'].append({'id': 3, 'width': 40, 'height': 30})
    (tmp_path / 'truth.json').write_text(json.dumps(data))
    cv2.imwrite(str(tmp_path / '1.png'), np.zeros((30, 41, 3), np.uint8))
    result = check(tmp_path / 'truth.json', '--classes', 'bird', '--images', tmp_path)
    assert result.status == 1
    for part in ('bird', '(1: 2)', 'cannot be read (1: 2.png)', 'another size', '1.png'):
        assert part in result.out
    assert 'without file_name, width and height (1: 3)' in result.out
    missing = check(tmp_path / 'nowhere.json')
    assert missing.status == 1
    assert 'nowhere.json' in missing.err
    assert 'Traceback' not in missing.err


def test_pictures_may_be_named_by_their_address(tmp_path, check) -> None:
    """As LVIS v1 has it, which MMDetection reads with a class of its own."""
    build(tmp_path, content())
    data = content()
    for image in data['images']:
        image['coco_url'] = f'http://images.cocodataset.org/val2017/{image.pop("file_name")}'
    (tmp_path / 'truth.json').write_text(json.dumps(data))
    with pytest.raises(ValueError, match='no file_name: .*LVISV1Dataset.*(2: 1, 2)'):
        DATASETS.build(dict(type='CheckedCocoDataset', ann_file=str(tmp_path / 'truth.json')))
    (tmp_path / 'val2017').mkdir()
    (tmp_path / '1.png').rename(tmp_path / 'val2017' / '1.png')
    result = check(tmp_path / 'truth.json', '--images', tmp_path)
    expected = 'error: pictures that cannot be read (1: val2017/2.png)'
    assert result.status == 1 and expected in result.out.splitlines()
    (tmp_path / '2.png').rename(tmp_path / 'val2017' / '2.png')
    assert check(tmp_path / 'truth.json', '--images', tmp_path).status == 0


def test_the_command_turns_pictures_as_training_does(tmp_path, check) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees
    Image.new('RGB', (60, 30)).save(tmp_path / '1.jpg', exif=exif)
    read = LoadImageFromFile().transform({'img_path': str(tmp_path / '1.jpg')})['img']
    assert read.shape == (60, 30, 3)
    data = {**content(), 'annotations': []}
    data['images'] = [{'id': 1, 'file_name': '1.jpg', 'width': 30, 'height': 60}]
    (tmp_path / 'truth.json').write_text(json.dumps(data))
    upright = check(tmp_path / 'truth.json', '--images', tmp_path)
    expected = 'no problems\n1 images, 0 annotations, 2 categories\n'
    assert (upright.status, upright.out[: len(expected)]) == (0, expected)
    assert 'images of 30 x 60 to 30 x 60 pixels' in upright.out
    data['images'][0].update(width=60, height=30)
    (tmp_path / 'truth.json').write_text(json.dumps(data))
    lying = check(tmp_path / 'truth.json', '--images', tmp_path)
    assert lying.status == 1
    assert 'upright by their EXIF orientation (1: 1.jpg)' in lying.out


def test_pictures_are_read_as_training_reads_them(tmp_path) -> None:
    """Of a picture cut off, decoders of files and of bytes differ in whether it can be read."""
    rng = np.random.default_rng(0)
    path = tmp_path / '1.jpg'
    Image.fromarray(rng.integers(0, 255, (30, 40, 3), dtype=np.uint8)).save(path)
    whole = path.read_bytes()
    data = {'images': [{'id': 1, 'file_name': '1.jpg', 'width': 40, 'height': 30}]}
    for share in (1, 0.6, 0):
        path.write_bytes(whole[: int(share * len(whole))])
        try:
            read = LoadImageFromFile().transform({'img_path': str(path)})
        except (AssertionError, cv2.error):
            read = None
        assert (check_images(data, tmp_path) == []) == (read is not None), share


def test_classes_without_a_comma_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"comma is missing, write classes=\('pebble',\)"):
        build(tmp_path, content(), classes='pebble')


def test_the_command_says_what_a_sound_file_holds(tmp_path, check) -> None:
    data = content()
    data['annotations'] += [annotation(id=2, category_id=3), annotation(id=3, iscrowd=1)]
    (tmp_path / 'truth.json').write_text(json.dumps(data))
    result = check(tmp_path / 'truth.json', '--classes', 'dog', 'cat')
    assert (result.status, result.out.splitlines()) == (
        0,
        [
            'no problems',
            '2 images, 3 annotations, 2 categories',
            'dog         1 objects',
            'cat         1 objects',
            'images of 40 x 30 to 40 x 30 pixels (width x height)',
            'objects of 16 x 16 to 16 x 16 pixels (width x height)',
            '1 crowds',
        ],
    )
    (tmp_path / 'truth.json').write_text(json.dumps(content()))
    assert 'without any object: cat' in check(tmp_path / 'truth.json').out


def test_the_command_names_the_fix(tmp_path, check) -> None:
    data = content()
    data['images'][0] |= {'width': 30, 'height': 40}
    data['annotations'] += [
        annotation(id=2, segmentation={'size': [40, 30], 'counts': "b'e7'"}),
        annotation(id=3, bbox=[4.0, 4.0, 20.0, 20.0]),
        annotation(id=4, iscrowd='0'),
        annotation(id=[5]),
        None,
    ]
    (tmp_path / 'truth.json').write_text(json.dumps(data))
    cv2.imwrite(str(tmp_path / '1.png'), np.zeros((30, 40, 3), np.uint8))
    result = check(tmp_path / 'truth.json', '--classes', 'cat', 'dog', '--images', tmp_path)
    assert (result.status, 'Traceback' in result.err) == (1, False)
    for part in (
        "another order, which decides the labels: write classes=('dog', 'cat') (2: dog, cat)",
        'cannot be decoded (1: 2)',
        'write x, y, width, height (1: 3)',
        'other than the numbers 0 and 1 (1: 4)',
        'or no id (1: annotations[4])',
        'without image_id and category_id (1: annotations[5])',
        'width and height the file swaps, upright by their EXIF orientation (1: 1.png)',
    ):
        assert part in result.out, result.out
    missing = check(tmp_path / 'truth.json', '--images', tmp_path / 'nowhere')
    assert (missing.status, missing.err) == (1, '')
    assert 'no such folder of pictures' in missing.out
    (tmp_path / 'truth.json').write_text(json.dumps(content()), encoding='utf-16')
    marked = check(tmp_path / 'truth.json')
    assert marked.status == 1
    assert 'save it as UTF-8' in marked.err
