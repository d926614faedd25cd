"""Small exports in every format, read back to the objects they were made from."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from source_files import (
    SIZE,
    SQUARE,
    TRIANGLE,
    coco_content,
    drawn,
    encoded_mask,
    labelme_file,
    masks,
    pairs,
    picture,
    require_two_objects,
    write,
    yolo_line,
)

from mmrefine.datasets.sources import read_source


def test_roboflow_coco(tmp_path: Path) -> None:
    for name in 'ab':
        picture(tmp_path / 'train' / f'{name}.jpg')
    write(tmp_path / 'train' / '_annotations.coco.json', coco_content())
    kind, source = read_source(tmp_path)
    assert kind == 'coco'
    require_two_objects(source, split='train')
    assert any('fruits' in note for note in source.notes)


def test_cvat_coco_keeps_pictures_in_a_folder_beside(tmp_path: Path) -> None:
    for name in 'ab':
        picture(tmp_path / 'images' / 'default' / f'{name}.jpg')
    write(tmp_path / 'annotations' / 'instances_default.json', coco_content('default/'))
    require_two_objects(read_source(tmp_path)[1])


def test_label_studio_coco_with_backslashes(tmp_path: Path) -> None:
    for name in 'ab':
        picture(tmp_path / 'images' / f'{name}.jpg')
    write(tmp_path / 'result.json', coco_content('images\\'))
    require_two_objects(read_source(tmp_path / 'result.json')[1])


def test_lvis_names_pictures_by_their_address(tmp_path: Path) -> None:
    content = coco_content()
    for image in content['images']:
        name = image.pop('file_name')
        picture(tmp_path / 'train2017' / name)
        image['coco_url'] = f'http://images.cocodataset.org/train2017/{name}'
    write(tmp_path / 'lvis.json', content)
    require_two_objects(read_source(tmp_path)[1])


def test_coco_without_its_pictures_names_one(tmp_path: Path) -> None:
    write(tmp_path / 'result.json', coco_content())
    with pytest.raises(ValueError, match="names the picture 'a.jpg', which is not below"):
        read_source(tmp_path)


def test_coco_annotations_without_segmentation_are_counted(tmp_path: Path) -> None:
    content = coco_content()
    content['annotations'][1]['segmentation'] = []
    for name in 'ab':
        picture(tmp_path / f'{name}.jpg')
    write(tmp_path / 'x.json', content)
    notes = read_source(tmp_path)[1].notes
    assert any(note.startswith('1 annotations have no segmentation') for note in notes)


def test_labelme(tmp_path: Path) -> None:
    for name in 'ab':
        picture(tmp_path / f'{name}.jpg')
    corners = [[30.0, 25.0], [10.0, 5.0]]
    shapes = [
        {'label': 'nut', 'points': corners, 'shape_type': 'rectangle', 'group_id': None},
        {'label': 'date', 'points': pairs(TRIANGLE), 'shape_type': 'polygon'},
        {'label': 'date', 'points': pairs(TRIANGLE)[:2], 'shape_type': 'line'},
    ]
    write(tmp_path / 'a.json', labelme_file('a.jpg', shapes))
    write(tmp_path / 'b.json', labelme_file('..\\elsewhere\\b.jpg', []))
    kind, source = read_source(tmp_path)
    assert kind == 'labelme' and any('lines or points' in note for note in source.notes)
    require_two_objects(source)


def test_labelme_groups_masks_and_circles(tmp_path: Path) -> None:
    picture(tmp_path / 'a.jpg')
    encoded = encoded_mask(4, 6)
    polygon = {'label': 'nut', 'shape_type': 'polygon', 'group_id': 3}
    shapes = [
        {**polygon, 'points': pairs(SQUARE)},
        {**polygon, 'points': pairs(TRIANGLE)},
        {'label': 'leaf', 'points': [[2, 30], [7, 33]], 'shape_type': 'mask', 'mask': encoded},
        {'label': 'ball', 'points': [[30, 20], [30, 28]], 'shape_type': 'circle'},
    ]
    write(tmp_path / 'a.json', labelme_file('a.jpg', shapes))
    found = dict(masks(read_source(tmp_path)[1])['a.jpg'])
    np.testing.assert_array_equal(found['nut'], drawn(SQUARE) | drawn(TRIANGLE))
    expected = np.zeros(SIZE, bool)
    expected[30:34, 2:8] = True
    np.testing.assert_array_equal(found['leaf'], expected)
    assert abs(found['ball'].sum() - np.pi * 64) < 8 and found['ball'][20, 30]


@pytest.mark.parametrize('project', [False, True])
def test_via(tmp_path: Path, project: bool) -> None:
    for name in 'ab':
        picture(tmp_path / f'{name}.jpg')
    xs, ys = TRIANGLE[::2], TRIANGLE[1::2]
    regions = [
        {
            'shape_attributes': {'name': 'rect', 'x': 10, 'y': 5, 'width': 20, 'height': 20},
            'region_attributes': {'kind': 'nut', 'note': ''},
        },
        {
            'shape_attributes': {'name': 'polygon', 'all_points_x': xs, 'all_points_y': ys},
            'region_attributes': {'kind': {'date': True}},
        },
    ]
    entries = {
        'a.jpg123': {'filename': 'a.jpg', 'size': 123, 'regions': regions},
        'b.jpg123': {'filename': 'b.jpg', 'size': 123, 'regions': {}},
    }
    write(tmp_path / 'via.json', {'_via_img_metadata': entries} if project else entries)
    kind, source = read_source(tmp_path)
    assert kind == 'via' and any("attribute 'kind'" in note for note in source.notes)
    require_two_objects(source)


@pytest.mark.parametrize('names', ['[date, nut]', '{0: date, 1: nut}'])
@pytest.mark.parametrize('train', ['images/train', '../images/train'])
def test_yolo(tmp_path: Path, names: str, train: str) -> None:
    for name in 'ab':
        picture(tmp_path / 'images' / 'train' / f'{name}.jpg')
    lines = f'{yolo_line(1, SQUARE)}\n{yolo_line(0, TRIANGLE)}\n'
    write(tmp_path / 'labels' / 'train' / 'a.txt', lines)
    write(tmp_path / 'data.yaml', f'train: {train}\nval:\nnames: {names}\n')
    kind, source = read_source(tmp_path)
    assert kind == 'yolo' and source.classes == ['date', 'nut']
    assert any('no label file' in note for note in source.notes)
    require_two_objects(source, split='train')


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('0 .1 .2 .3 .4', 'is a box'),
        ('7 0 0 1 0 1 1', 'class 7'),
        ('0.9 0 0 1 0 1 1', 'class 0.9'),
        ('0 a b', 'no list of numbers'),
    ],
)
def test_yolo_lines_that_are_no_outlines(tmp_path: Path, line: str, message: str) -> None:
    picture(tmp_path / 'images' / 'a.jpg')
    write(tmp_path / 'labels' / 'a.txt', line)
    write(tmp_path / 'data.yaml', 'train: images\nnames: [nut]\n')
    with pytest.raises(ValueError, match=f'a.txt, line 1.*{message}'):
        read_source(tmp_path)


@pytest.mark.parametrize('cvat', [False, True])
def test_pascal_voc(tmp_path: Path, cvat: bool) -> None:
    for name in 'ab':
        picture(tmp_path / 'JPEGImages' / f'{name}.jpg')
    numbers, kinds = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    for number, (kind, polygon) in enumerate(((2, SQUARE), (1, TRIANGLE)), 1):
        numbers[drawn(polygon)], kinds[drawn(polygon)] = number, kind
    colours = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0]], np.uint8)
    for name, pair in (('a', (numbers, kinds)), ('b', (numbers * 0, kinds * 0))):
        for folder, values in zip(('SegmentationObject', 'SegmentationClass'), pair):
            (tmp_path / folder).mkdir(exist_ok=True)
            pixels = colours[values] if cvat else values
            Image.fromarray(pixels).save(tmp_path / folder / f'{name}.png')
    write(tmp_path / 'ImageSets' / 'Segmentation' / 'train.txt', 'a\nb\n')
    if cvat:
        lines = ['# label:color_rgb:parts:actions', 'background:0,0,0::', 'date:128,0,0::']
        write(tmp_path / 'labelmap.txt', '\n'.join([*lines, 'nut:0,128,0::']))
    kind, source = read_source(tmp_path)
    assert kind == 'voc'
    if cvat:
        require_two_objects(source, split='train')
    else:
        found = dict(masks(source)['a.jpg'])
        np.testing.assert_array_equal(found['bicycle'], drawn(SQUARE))
        np.testing.assert_array_equal(found['aeroplane'], drawn(TRIANGLE))
        assert "those of Pascal VOC's twenty classes" in source.notes[-1]
        boxes = '<annotation><object>\n<name>{}</name></object></annotation>'
        write(tmp_path / 'Annotations' / 'a.xml', boxes.format('bicycle'))
        read_source(tmp_path)
        write(tmp_path / 'Annotations' / 'b.xml', boxes.format('nut'))
        with pytest.raises(ValueError, match=r"b.xml has the class 'nut'.*labelmap.txt"):
            read_source(tmp_path)


@pytest.mark.parametrize('layout', ['numbers', 'folders', 'bowl'])
def test_png_masks(tmp_path: Path, layout: str) -> None:
    base = tmp_path / 'a' if layout == 'bowl' else tmp_path
    picture(base / 'images' / 'a.jpg')
    if layout == 'numbers':
        values = drawn(SQUARE) * 300 + drawn(TRIANGLE) * 7
        cv2.imwrite(str(picture(base / 'masks' / 'a.png')), values.astype(np.uint16))
    else:
        folder = base / 'masks' if layout == 'bowl' else base / 'masks' / 'a'
        for i, polygon in enumerate((SQUARE, TRIANGLE)):
            cv2.imwrite(str(picture(folder / f'{i}.png')), drawn(polygon).astype(np.uint8) * 255)
    kind, source = read_source(tmp_path)
    assert kind == 'png' and source.classes == ['object']
    found = [inside for _, inside in masks(source)['a.jpg']]
    assert len(found) == 2
    for polygon in (SQUARE, TRIANGLE):
        assert any((inside == drawn(polygon)).all() for inside in found)


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    picture(tmp_path / 'images' / 'a.jpg')
    cv2.imwrite(str(picture(tmp_path / 'masks' / 'a.png')), np.ones((10, 10), np.uint8))
    with pytest.raises(ValueError, match='a.jpg has 40 x 60 pixels.*its mask 10 x 10'):
        read_source(tmp_path)


def test_unknown_sources_are_refused_with_the_list_of_formats(tmp_path: Path) -> None:
    picture(tmp_path / 'a.jpg')
    with pytest.raises(ValueError, match='none of the known formats .*yolo'):
        read_source(tmp_path)
    with pytest.raises(OSError, match='there is no'):
        read_source(tmp_path / 'nowhere')
