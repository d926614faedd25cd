"""From a source to a set that trains: splits, files, checks."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from mmdet.registry import DATASETS
from source_files import SIZE, SQUARE, labelme_set, picture

from mmrefine.apis.prepare_data import prepare_data, split_images
from mmrefine.datasets.sources import SourceImage


def test_every_picture_lands_in_one_split_and_loads(tmp_path: Path) -> None:
    source = labelme_set(tmp_path / 'ordner ä', [f'p{i}' for i in range(10)])
    data = prepare_data([source], tmp_path / 'out', val_share=0.3)
    assert data.kind == 'labelme' and data.counts == {'train': (7, 14), 'val': (3, 6)}
    assert data.class_counts == {'cat': 10, 'dog': 10} and data.problems == {'train': [], 'val': []}
    seen = []
    for split in ('train', 'val'):
        dataset = DATASETS.build(
            dict(
                type='CheckedCocoDataset',
                ann_file=str(tmp_path / 'out' / 'annotations' / f'{split}.json'),
                data_prefix=dict(img=f'{data.image_root}/'),
                metainfo=dict(classes=tuple(data.classes)),
                strict=True,
            )
        )
        for i in range(len(dataset)):
            info = dataset.get_data_info(i)
            seen.append(Path(info['img_path']).name)
            assert Path(info['img_path']).is_file()
            assert [o['bbox_label'] for o in info['instances']] == [0, 1]
    assert sorted(seen) == sorted(f'p{i}.png' for i in range(10))
    assert (tmp_path / 'out' / 'sheet.jpg').is_file()


def test_the_split_follows_its_seed(tmp_path: Path) -> None:
    images = [SourceImage(Path(f'{i}.png'), 1, 1) for i in range(20)]
    first, _ = split_images(images, 0.2, 0, None)
    again, _ = split_images(images[::-1], 0.2, 0, None)
    other, _ = split_images(images, 0.2, 1, None)
    assert first == again and first != other and len(first['val']) == 4


def test_groups_stay_together() -> None:
    images = [SourceImage(Path(f'{group}_{i}.png'), 1, 1) for group in 'abcde' for i in range(4)]
    splits, note = split_images(images, 0.4, 0, '_')
    groups = {name: {i.path.name[0] for i in part} for name, part in splits.items()}
    assert not groups['train'] & groups['val'] and len(groups['val']) == 2
    assert note.startswith('2 of 5 groups')
    with pytest.raises(ValueError, match='one group of the separator'):
        split_images(images[:4], 0.4, 0, '_')


def test_the_split_of_the_source_is_kept() -> None:
    images = [SourceImage(Path(f'{s}.png'), 1, 1, split=s) for s in ('train', 'test', 'val')]
    splits, note = split_images(images, 0.5, 0, None)
    assert list(splits) == ['train', 'val', 'test'] and 'own split' in note
    without, note = split_images(images[:2], 0.5, 0, None)
    assert without['val'] == [images[1]] and 'test pictures validate' in note
    with pytest.raises(ValueError, match='none to train on'):
        split_images(images[1:], 0.5, 0, None)


@pytest.mark.parametrize('known', [('train', 'val'), ('val',), ('test',), ('train', 'val', 'test')])
def test_pictures_without_a_split_leave_the_others_theirs(known: tuple[str, ...]) -> None:
    images = [SourceImage(Path(f'{s}{i}.png'), 1, 1, split=s) for s in known for i in range(3)]
    images.append(SourceImage(Path('more.png'), 1, 1))
    splits, note = split_images(images, 0.5, 0, None)
    names = {name: sorted(i.path.name for i in part) for name, part in splits.items()}
    expected = {s: [f'{s}{i}.png' for i in range(3)] for s in known}
    expected['train'] = ['more.png', *expected.get('train', [])]
    expected.setdefault('val', expected.get('test', []))
    if 'val' not in known:
        del expected['test']
    assert names == expected and '1 pictures without a split train: more.png' in note


def test_copied_pictures_make_the_set_independent(tmp_path: Path) -> None:
    source = labelme_set(tmp_path / 'source', ['a', 'b'])
    data = prepare_data([source], tmp_path / 'out', copy=True)
    assert data.image_root == tmp_path / 'out' / 'images'
    assert sorted(p.name for p in data.image_root.iterdir()) == ['a.png', 'b.png']


@pytest.mark.parametrize('name', ['annotations/train.json', 'sheet.jpg', 'images/a.png'])
@pytest.mark.parametrize('listed', ['folder', 'file'])
def test_the_source_is_never_written_over(tmp_path: Path, name: str, listed: str) -> None:
    pictures = ['a.png', 'images/a.png', *(['sheet.jpg'] if name == 'sheet.jpg' else [])]
    for file in pictures:
        picture(tmp_path / file)
    content = coco_file(pictures)
    source = tmp_path / 'annotations' / ('train.json' if name[0] == 'a' else 'all.json')
    source.parent.mkdir()
    source.write_text(json.dumps(content))
    before = {path: path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()}
    with pytest.raises(ValueError, match=f'{name} belongs to the source .*name another --out'):
        prepare_data(
            [tmp_path if listed == 'folder' else source], tmp_path, copy=name == 'images/a.png'
        )
    after = {path: path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()}
    assert after == before


def coco_file(pictures: list[str]) -> dict:
    sides = {'height': SIZE[0], 'width': SIZE[1]}
    images = [{'id': i, 'file_name': f'../{name}', **sides} for i, name in enumerate(pictures)]
    annotations = [
        {'id': i, 'image_id': i, 'category_id': 1, 'segmentation': [SQUARE]}
        for i in range(len(pictures))
    ]
    return {
        'images': images,
        'annotations': annotations,
        'categories': [{'id': 1, 'name': 'cat'}],
    }


def test_masks_that_cannot_be_drawn_name_picture_and_object(tmp_path: Path) -> None:
    source = labelme_set(tmp_path / 'source', ['a', 'b'])
    content = json.loads((source / 'a.json').read_text())
    content['shapes'][1]['points'] = [[1, 1], [5, 5]]
    (source / 'a.json').write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r'a.png, object 1 \(dog\): .*3'):
        prepare_data([source], tmp_path / 'out')


def test_a_picture_listed_twice_is_refused(tmp_path: Path) -> None:
    source = labelme_set(tmp_path / 'source', ['a', 'b'])
    (source / 'again.json').write_text((source / 'a.json').read_text())
    with pytest.raises(ValueError, match='lists 1 pictures more than once'):
        prepare_data([source], tmp_path / 'out')


def test_objects_are_needed(tmp_path: Path) -> None:
    source = labelme_set(tmp_path / 'source' / 'train', ['a', 'b'], labels=()).parent
    with pytest.raises(ValueError, match='2 pictures, but no object'):
        prepare_data([source], tmp_path / 'out')
    labelme_set(source / 'val', ['c'])
    with pytest.raises(ValueError, match='none of the pictures to train on has an object'):
        prepare_data([source], tmp_path / 'out')


def test_pictures_without_annotations_are_named(tmp_path: Path) -> None:
    source = labelme_set(tmp_path / 'source', ['a', 'b', 'c'])
    (source / 'c.json').unlink()
    note = prepare_data([source], tmp_path / 'out').notes[0]
    assert note.startswith('1 pictures lie beside the annotated ones') and 'c.png' in note


def test_ignored_objects_stay_ignored(tmp_path: Path) -> None:
    labelme_set(tmp_path / 'source', ['a', 'b'])
    content = coco_file(['a.png', 'b.png'])
    content['annotations'][0]['ignore'] = 1
    file = tmp_path / 'source' / 'coco' / 'all.json'
    file.parent.mkdir()
    file.write_text(json.dumps(content))
    data = prepare_data([file], tmp_path / 'out')
    made = [json.loads((data.folder / f'annotations/{s}.json').read_text()) for s in data.counts]
    flags = {
        (part['images'][0]['file_name'], a.get('ignore'))
        for part in made
        for a in part['annotations']
    }
    assert flags == {('a.png', 1), ('b.png', None)}


def test_pictures_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    source = labelme_set(tmp_path / 'source', ['a', 'b'])
    for name in 'ab':
        content = (source / f'{name}.png').read_bytes()
        (source / f'{name}.png').write_bytes(content[:40])  # the header alone
    with pytest.raises(ValueError, match=r'\.png cannot be read as a picture'):
        prepare_data([source], tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_the_command_says_what_to_run_next(tmp_path: Path, command: Callable) -> None:
    source = labelme_set(tmp_path / 'source', ['a', 'b', 'c'])
    done = command('prepare_data', source, '--out', tmp_path / 'mine')
    assert done.status == 0, done.err
    assert 'mim train mmrefine' in done.out and (tmp_path / 'mine' / 'mine.py').is_file()
    assert '3 cat' in done.out and 'learning rate 0.0025' in done.out
