"""What readers of exports refuse, tell and keep."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from source_files import (
    SIZE,
    SQUARE,
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
from mmrefine.datasets.sources.records import picture_size
from mmrefine.results.image_files import read_picture


def coco_folder(folder: Path, change: dict | None = None) -> Path:
    """A COCO source; ``change`` gives fields of the first record of a list another value."""
    for name in 'ab':
        picture(folder / f'{name}.jpg')
    content = coco_content()
    for key, values in (change or {}).items():
        content[key][0] |= values
    write(folder / 'x.json', content)
    return folder


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'images': {'id': 1}}, 'has the id 1, which occurs twice'),
        ({'images': {'width': 60.9}}, 'expected whole numbers'),
        ({'categories': {'id': 1}}, 'has the id 1, which occurs twice'),
        ({'categories': {'name': 'nut'}}, "have one name, 'nut'"),
        ({'annotations': {'image_id': 77}}, 'image 77, which is not listed'),
        ({'annotations': {'category_id': 77}}, 'category 77, which is not listed'),
        ({'annotations': {'iscrowd': 2}}, 'iscrowd 2: write the number 0 or 1'),
        ({'annotations': {'ignore': '1'}}, "ignore '1': write the number 0 or 1"),
    ],
)
def test_coco_faults_are_refused(tmp_path: Path, change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f'x.json: .*{message}'):
        read_source(coco_folder(tmp_path, change))


def test_coco_boxes_and_areas_may_be_wrong_as_they_are_made_anew(tmp_path: Path) -> None:
    change = {'annotations': {'bbox': [1, 2], 'area': 'x', 'id': 2}}
    require_two_objects(read_source(coco_folder(tmp_path, change))[1])


def test_coco_flags_are_kept(tmp_path: Path) -> None:
    first, second = (
        read_source(coco_folder(tmp_path, {'annotations': {'ignore': 1}}))[1].images[0].objects
    )
    assert (first.ignore, first.crowd, second.ignore) == (True, False, False)


@pytest.mark.parametrize('make', [coco_folder, lambda folder: labelme_folder(folder)])
def test_damaged_json_is_named(tmp_path: Path, make: Callable) -> None:
    whole = next(make(tmp_path).glob('*.json')).read_text()
    (tmp_path / 'y.json').write_text(whole[:-9])
    for source in (tmp_path, tmp_path / 'y.json'):
        with pytest.raises(ValueError, match='y.json ends in the middle of an entry'):
            read_source(source)


@pytest.mark.parametrize(
    ('name', 'content', 'told'),
    [
        ('.vscode/settings.json', '{} // a comment', False),
        ('.trash/b.json', '{"shapes": [', False),
        ('tsconfig.json', '{} // a comment', True),
        ('mkdocs.yml', 'a: !!python/name:x.y\n', False),
    ],
)
@pytest.mark.parametrize('make', [coco_folder, lambda folder: labelme_folder(folder)])
def test_files_of_other_programs_are_passed_over(
    tmp_path: Path, make: Callable, name: str, content: str, told: bool
) -> None:
    expected = read_source(make(tmp_path))
    write(tmp_path / name, content)
    kind, source = read_source(tmp_path)
    assert (kind, masks(source).keys()) == (expected[0], masks(expected[1]).keys())
    assert [name in note for note in source.notes[len(expected[1].notes) :]] == [True] * told
    with pytest.raises(ValueError, match='is no json|is no yaml|ends in the middle'):
        read_source(tmp_path / name)


def test_json_of_other_spellings_is_read(tmp_path: Path) -> None:
    path = coco_folder(tmp_path) / 'x.json'
    path.rename(tmp_path / 'X.JSON').write_bytes(
        path.with_name('X.JSON').read_text().encode('utf-16')
    )
    require_two_objects(read_source(tmp_path)[1])


def test_annotations_of_other_formats_are_named(tmp_path: Path) -> None:
    entries = {'a': {'filename': 'a.jpg', 'regions': []}}
    write(coco_folder(tmp_path) / 'via.json', entries)
    picture(tmp_path / 'masks' / 'a.png')
    (tmp_path / 'images').mkdir()
    kind, source = read_source(tmp_path)
    assert kind == 'coco' and source.notes[-2].startswith('1 json files hold no coco annotations')
    assert 'via.json' in source.notes[-2]
    assert source.notes[-1].startswith('1 folders hold png annotations too')


def labelme_folder(folder: Path, **change: object) -> Path:
    """One picture with a rectangle; ``change`` is of its shape."""
    picture(folder / 'a.jpg')
    corners = [[10, 5], [30, 25]]
    shape = {'label': 'nut', 'points': corners, 'shape_type': 'rectangle', **change}
    write(folder / 'a.json', labelme_file('a.jpg', [shape]))
    return folder


def test_labelme_rectangles_of_four_corners(tmp_path: Path) -> None:
    source = read_source(labelme_folder(tmp_path, points=pairs(SQUARE)))[1]
    np.testing.assert_array_equal(dict(masks(source)['a.jpg'])['nut'], drawn(SQUARE))


MASK = {'shape_type': 'mask', 'mask': encoded_mask(4, 6)}


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'label': None}, 'shape 0 has the label None'),
        ({'points': [[1, 1]]}, 'shape 0 is a rectangle of 1 points'),
        ({'points': None}, 'is not as its format has it'),
        ({'points': [['1', 1], ['x', 5], [9, 1]], 'shape_type': 'polygon'}, "to float: 'x'"),
        ({'points': [[55, 30]], **MASK}, r'shape 0 is a mask of \(55, 30\) to \(61, 34\), which'),
        ({'points': [[-1, 30]], **MASK}, 'which reaches over the edge'),
        ({**MASK, 'mask': 'YQ=='}, 'shape 0 cannot be read as a picture'),
    ],
)
def test_labelme_faults_are_named(tmp_path: Path, change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f'a.json.*{message}'):
        read_source(labelme_folder(tmp_path, **change))


def test_labelme_masks_of_one_group_are_one_object(tmp_path: Path) -> None:
    picture(tmp_path / 'a.jpg')
    shapes = [{'label': 'nut', 'group_id': 1, 'points': [[x, 5]], **MASK} for x in (10, 30)]
    write(tmp_path / 'a.json', labelme_file('a.jpg', shapes))
    ((label, inside),) = masks(read_source(tmp_path)[1])['a.jpg']
    expected = np.zeros(SIZE, bool)
    expected[5:9, [*range(10, 16), *range(30, 36)]] = True
    assert label == 'nut' and (inside == expected).all()
    shapes[0] = {'label': 'nut', 'group_id': 1, 'points': pairs(SQUARE)}
    write(tmp_path / 'a.json', labelme_file('a.jpg', shapes))
    with pytest.raises(ValueError, match='group 1 mixes polygons and masks'):
        read_source(tmp_path)


def test_labelme_files_without_a_size(tmp_path: Path) -> None:
    path = labelme_folder(tmp_path, points=pairs(SQUARE)) / 'a.json'
    content = path.read_text().replace(f'"imageWidth": {SIZE[1]}', '"imageWidth": null')
    write(path, content.replace(f'"imageHeight": {SIZE[0]}, ', ''))
    source = read_source(tmp_path)[1]
    np.testing.assert_array_equal(dict(masks(source)['a.jpg'])['nut'], drawn(SQUARE))


def test_via_outlines_need_as_many_x_as_y(tmp_path: Path) -> None:
    picture(tmp_path / 'a.jpg')
    outline = {'name': 'polygon', 'all_points_x': [1, 9, 9, 1], 'all_points_y': [1, 1, 9]}
    entry = {'filename': 'a.jpg', 'regions': [{'shape_attributes': outline}]}
    write(tmp_path / 'via.json', {'a': entry})
    with pytest.raises(ValueError, match='via.json, a.jpg, region 0 has 4 x but 3 y'):
        read_source(tmp_path)


def yolo_folder(folder: Path, names: str = 'names: [nut, date]') -> Path:
    picture(folder / 'images' / 'a.jpg')
    write(folder / 'labels' / 'a.txt', yolo_line(0, SQUARE))
    write(folder / 'data.yaml', f'train: images\n{names}\n')
    return folder


@pytest.mark.parametrize(
    ('names', 'message'),
    [
        ('names: [nut, nut]', "two classes of the name 'nut'"),
        ('names: nut', "the names 'nut': expected a list"),
        ("names: {'0': nut}", 'expected a list'),
        ('names: [nut, no]', 'the label False'),
        ('names: [nut]\nnc: 3', r'has 3 classes \(nc\), but 1 names'),
        ('names: [nut', 'is no yaml'),
        ('names: [nut]\nkpt_shape: [17, 3]', r'describes points of poses \(kpt_shape\)'),
    ],
)
def test_yolo_names_are_checked(tmp_path: Path, names: str, message: str) -> None:
    with pytest.raises(ValueError, match=f'data.yaml .*{message}'):
        read_source(yolo_folder(tmp_path, names))


def test_yolo_sets_are_read_one_by_one(tmp_path: Path) -> None:
    (yolo_folder(tmp_path) / 'more.yml').write_text('train: images\nnames: [x]\n')
    with pytest.raises(ValueError, match='several sets .*data.yaml, .*more.yml.: name one'):
        read_source(tmp_path)


def test_yolo_labels_of_no_picture_are_named(tmp_path: Path) -> None:
    write(yolo_folder(tmp_path) / 'labels' / 'z.txt', yolo_line(0, SQUARE))
    note = read_source(tmp_path)[1].notes[-1]
    assert (
        note.startswith('1 text files beside the labels belong to no picture') and 'z.txt' in note
    )
    picture(tmp_path / 'images' / 'a.png')
    with pytest.raises(ValueError, match='a.txt belongs to two pictures'):
        read_source(tmp_path)


def test_yolo_pictures_of_two_splits_are_refused(tmp_path: Path) -> None:
    write(yolo_folder(tmp_path) / 'data.yaml', 'train: images\nval: images\nnames: [nut]\n')
    with pytest.raises(ValueError, match='a.jpg in train and in val: remove one of the two'):
        read_source(tmp_path)


def test_texts_that_are_not_utf8_are_named(tmp_path: Path) -> None:
    label = yolo_folder(tmp_path / 'yolo') / 'labels' / 'a.txt'
    label.write_bytes(b'\xff')
    (voc_folder(tmp_path / 'voc', 'a', drawn(SQUARE)) / 'labelmap.txt').write_bytes(b'n\xfc')
    for kind, name in (('yolo', 'labels/a.txt'), ('voc', 'labelmap.txt')):
        with pytest.raises(ValueError, match=f'{name} is no text in UTF-8'):
            read_source(tmp_path / kind)


def voc_folder(root: Path, name: str, numbers: np.ndarray) -> Path:
    picture(root / 'JPEGImages' / f'{name}.jpg')
    for folder, values in (
        ('Object', numbers),
        ('Class', (numbers.reshape(*SIZE, -1) > 0).any(-1)),
    ):
        path = picture(root / f'Segmentation{folder}' / f'{name}.png')
        Image.fromarray(values.astype(np.uint8)).save(path)
    return root


def test_pascal_voc_sets_are_all_read(tmp_path: Path) -> None:
    for root, name in (('train', 'a'), ('valid', 'b')):
        voc_folder(tmp_path / root, name, drawn(SQUARE))
    images = read_source(tmp_path)[1].images
    assert [(i.path.name, i.split) for i in images] == [('a.jpg', 'train'), ('b.jpg', 'val')]


def test_pascal_voc_colours_never_mean_the_border(tmp_path: Path) -> None:
    numbers = np.zeros((*SIZE, 3), np.uint8)
    numbers.reshape(-1, 3)[:300] = np.arange(300)[:, None] // [1, 256, 1] % 256  # 299 objects
    source = read_source(voc_folder(tmp_path, 'a', numbers))[1]
    assert len(source.images[0].objects) == 299


def test_pascal_voc_classes_have_one_colour(tmp_path: Path) -> None:
    root = voc_folder(tmp_path, 'a', drawn(SQUARE))
    write(root / 'labelmap.txt', 'background:0,0,0::\nnut:1,0,0::\nnut:2,0,0::\n')
    with pytest.raises(ValueError, match="labelmap.txt has two classes of the name 'nut'"):
        read_source(root)


@pytest.mark.parametrize('colours', [('1,0,0', '1,0,0'), ('0,0,0', '2,0,0')])
def test_pascal_voc_colours_have_one_class(tmp_path: Path, colours: tuple[str, str]) -> None:
    root = voc_folder(tmp_path, 'a', drawn(SQUARE))
    nut, date = colours
    write(root / 'labelmap.txt', f'background:0,0,0::\nnut:{nut}::\ndate:{date}::\n')
    with pytest.raises(ValueError, match='labelmap.txt has the colour .,0,0 for .* and for'):
        read_source(root)


def test_pascal_voc_pictures_of_two_lists_are_refused(tmp_path: Path) -> None:
    lists = voc_folder(tmp_path, 'a', drawn(SQUARE)) / 'ImageSets' / 'Segmentation'
    for split in ('train', 'val'):
        write(lists / f'{split}.txt', 'a\n\n')
    with pytest.raises(ValueError, match='val.txt has a, which is in train.txt, too: remove one'):
        read_source(tmp_path)


def test_pascal_voc_label_maps_of_any_editor(tmp_path: Path) -> None:
    path = voc_folder(tmp_path, 'a', drawn(SQUARE)) / 'labelmap.txt'
    text = '\r\n# names\r\nbackground:0,0,0::\r\n\r\nnüsse:1,0,0::\r\n'
    path.write_text(text, encoding='utf-8-sig')
    ((label, inside),) = masks(read_source(tmp_path)[1])['a.jpg']
    assert label == 'nüsse' and (inside == drawn(SQUARE)).all()
    for line, message in (('nut', 'not enough values'), ('nut:a,b,c', "invalid literal .*'a'")):
        path.write_text(line)
        with pytest.raises(ValueError, match=f'labelmap.txt: {message}'):
            read_source(tmp_path)


def png_folder(folder: Path, pictures: str, masks: str) -> Path:
    """Pictures below ``images``, and the square as mask files below ``masks``."""
    for name in pictures.split():
        picture(folder / 'images' / name)
    for name in masks.split():
        path = picture(folder / 'masks' / name)
        Image.fromarray(drawn(SQUARE).astype(np.uint8)).save(path)
    return folder


@pytest.mark.parametrize(
    ('pictures', 'files', 'counts'),
    [
        ('a.jpg b.jpg', 'a.PNG b/1.PNG b/2.png', {'a.jpg': 1, 'b.jpg': 2}),
        ('a.jpg b.jpg', 'a/cells/1.png a/2.png b.png', {'a.jpg': 2, 'b.jpg': 1}),
        ('x/a.jpg y/b.jpg', 'x/a.png y/b/1.png', {'a.jpg': 1, 'b.jpg': 1}),
        ('x/a.jpg y/b.jpg', 'a.png b.png', {'a.jpg': 1, 'b.jpg': 1}),
    ],
)
def test_png_masks_wherever_they_lie(
    tmp_path: Path, pictures: str, files: str, counts: dict
) -> None:
    (png_folder(tmp_path, pictures, files) / 'masks' / 'empty').mkdir()
    picture(tmp_path / 'images' / 'empty.jpg')
    found = masks(read_source(tmp_path)[1])
    assert found.pop('empty.jpg') == []
    assert {name: len(objects) for name, objects in found.items()} == counts


@pytest.mark.parametrize(
    ('pictures', 'files', 'message'),
    [
        (
            'x/a.jpg y/a.jpg',
            'a.png',
            'masks/a.png belongs to two pictures, .*x/a.jpg and .*y/a.jpg',
        ),
        ('a.jpg b.jpg', 'a/1.png a/2.tif b.png', '2.tif lies among PNG masks'),
        ('a.jpg b.jpg', 'a.png a/1.png b.png', 'a picture has the masks .*: keep one'),
        ('a.jpg b.jpg', 'a.png', 'b.jpg has no mask'),
    ],
)
def test_png_masks_of_doubtful_places(
    tmp_path: Path, pictures: str, files: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read_source(png_folder(tmp_path, pictures, files))


def test_png_masks_left_out_are_named(tmp_path: Path) -> None:
    png_folder(tmp_path, 'a.jpg b.jpg', 'a.png b.png c.png')
    picture(tmp_path / 'labels' / 'a.png')
    beside, orphan = read_source(tmp_path)[1].notes[-2:]
    assert beside.startswith('1 folders are left out') and 'labels' in beside
    assert orphan.startswith('1 masks belong to no picture') and 'c.png' in orphan


def test_png_masks_in_the_alpha_channel(tmp_path: Path) -> None:
    pixels = np.full((*SIZE, 4), 255, np.uint8)
    pixels[..., 3] = drawn(SQUARE) * 255
    path = png_folder(tmp_path, 'a.jpg', 'a.png') / 'masks' / 'a.png'
    Image.fromarray(pixels).save(path)
    with pytest.raises(ValueError, match='a.png shows one thing by its colours and another'):
        read_source(tmp_path)
    pixels[pixels[..., 3] == 0] = 0
    Image.fromarray(pixels).save(path)
    ((_, inside),) = masks(read_source(tmp_path)[1])['a.jpg']
    np.testing.assert_array_equal(inside, drawn(SQUARE))


def test_pictures_of_another_size_than_annotated_are_refused(tmp_path: Path) -> None:
    picture(labelme_folder(tmp_path) / 'a.jpg', (20, 30))
    with pytest.raises(ValueError, match='a.jpg has 30 x 20 pixels .* are of 60 x 40'):
        read_source(tmp_path)


@pytest.mark.parametrize('suffix', ['jpg', 'png', 'tif'])
@pytest.mark.parametrize(('orientation', 'size'), [(3, (6, 4)), (6, (4, 6)), (8, (4, 6))])
def test_sizes_are_upright(tmp_path: Path, suffix: str, orientation: int, size: tuple) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f'a.{suffix}'
    Image.new('RGB', (6, 4)).save(path, exif=exif)
    assert picture_size(path) == size == read_picture(path).shape[1::-1]


def test_sizes_of_huge_pictures(tmp_path: Path) -> None:
    Image.new('1', (20000, 10000)).save(tmp_path / 'a.png')
    assert picture_size(tmp_path / 'a.png') == (20000, 10000)


def test_pictures_of_one_name_are_told_apart_by_the_folders_of_their_splits(tmp_path: Path) -> None:
    square = {'id': 1, 'image_id': 1, 'category_id': 1, 'bbox': [10, 5, 20, 20], 'area': 400}
    square |= {'iscrowd': 0, 'segmentation': [SQUARE]}
    content = {
        'images': [{'id': 1, 'file_name': '0001.jpg', 'height': SIZE[0], 'width': SIZE[1]}],
        'annotations': [square],
        'categories': [{'id': 1, 'name': 'nut'}],
    }
    for split in ('train', 'val'):
        picture(tmp_path / 'images' / split / '0001.jpg')
        write(tmp_path / 'annotations' / f'nuts_{split}.json', content)
    _, source = read_source(tmp_path)
    places = {image.split: image.path for image in source.images}
    assert places == {s: tmp_path / 'images' / s / '0001.jpg' for s in ('train', 'val')}
    picture(tmp_path / 'more' / 'train' / '0001.jpg')
    with pytest.raises(ValueError, match=r"'0001.jpg', which is there 2 times"):
        read_source(tmp_path)
    content['images'][0]['file_name'] = 'more/train/0001.jpg'
    write(tmp_path / 'annotations' / 'nuts_train.json', content)
    _, source = read_source(tmp_path)
    assert source.images[0].path == tmp_path / 'more' / 'train' / '0001.jpg'


def test_png_masks_keep_the_split_of_their_folders(tmp_path: Path) -> None:
    png_folder(tmp_path, 'train/a.jpg val/b.jpg c.jpg', 'train/a.png val/b.png c.png')
    images = read_source(tmp_path)[1].images
    splits = {image.path.name: image.split for image in images}
    assert splits == {'a.jpg': 'train', 'b.jpg': 'val', 'c.jpg': None}


def test_voc_lists_of_pictures_with_blanks_in_their_names(tmp_path: Path) -> None:
    for name in ('my nut', 'my date', 'more'):
        voc_folder(tmp_path, name, drawn(SQUARE))
    lists = tmp_path / 'ImageSets' / 'Segmentation'
    write(lists / 'train.txt', 'my nut\r\n')
    write(lists / 'val.txt', '\nmy date \n')
    images = read_source(tmp_path)[1].images
    splits = {image.path.stem: image.split for image in images}
    assert splits == {'my nut': 'train', 'my date': 'val', 'more': None}
