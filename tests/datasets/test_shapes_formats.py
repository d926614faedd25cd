"""The written data sets, as stock readers and evaluators see them."""

import copy
import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS, METRICS
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from shapes import CLASSES, WRITERS, SceneSpec, make_shapes
from shapes.image_formats import CITYSCAPES_CLASSES

SPEC = SceneSpec(height=64, width=96, empty=20)
READERS = {
    'coco': dict(
        type='CocoDataset',
        ann_file='annotations/instances_{}.json',
        data_prefix=dict(img=''),
        metainfo=dict(classes=CLASSES),
    ),
    'lvis': dict(
        type='LVISV1Dataset',
        ann_file='annotations/lvis_v1_{}.json',
        data_prefix=dict(img=''),
        metainfo=dict(classes=CLASSES),
    ),
    'lvis_v0.5': dict(
        type='LVISV05Dataset',
        ann_file='annotations/lvis_v0.5_{}.json',
        data_prefix=dict(img=''),
        metainfo=dict(classes=CLASSES),
    ),
    'cityscapes': dict(
        type='CityscapesDataset',
        ann_file='annotations/instancesonly_filtered_gtFine_{}.json',
        data_prefix=dict(img='leftImg8bit/{}/'),
    ),
}
PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale_factor=1.0),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'instances'),
    ),
]


@pytest.fixture(scope='module')
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp('shapes')
    for form in WRITERS:
        count = (3, 2) if form == 'youtube-vis' else (12, 6)
        assert make_shapes(root / form, form, *count, SPEC, seed=3)
    folders = {form: root / form for form in WRITERS}
    return {**folders, 'lvis_v0.5': folders['lvis']}


def read(made: dict[str, Path], form: str, split: str):
    settings = copy.deepcopy(READERS[form])
    settings['ann_file'] = settings['ann_file'].format(split)
    settings['data_prefix'] = {k: v.format(split) for k, v in settings['data_prefix'].items()}
    root = str(made[form])
    return DATASETS.build(dict(**settings, data_root=root, test_mode=True, pipeline=PIPELINE))


@pytest.mark.parametrize('form', READERS)
@pytest.mark.parametrize(('split', 'count'), [('train', 12), ('val', 6)])
def test_stock_data_sets_read_pictures_and_masks(made, form, split, count) -> None:
    dataset = read(made, form, split)
    assert len(dataset) == count
    names = dataset.metainfo['classes']
    assert tuple(names) == (CITYSCAPES_CLASSES if form == 'cityscapes' else CLASSES)
    objects = 0
    for sample in dataset:
        truth = sample['data_samples'].gt_instances
        assert tuple(sample['inputs'].shape) == (3, 64, 96)
        assert (truth.labels < 8).all()
        objects += len(truth)
        for box, mask in zip(truth.bboxes.tensor, truth.masks.masks):
            ys, xs = np.nonzero(mask)
            assert box.tolist() == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
    assert objects > count


def test_formats_show_the_same_pictures(made) -> None:
    """COCO, LVIS and Cityscapes of one seed differ in words only."""
    for index in range(6):
        coco, lvis, city = (read(made, f, 'val')[index] for f in ('coco', 'lvis', 'cityscapes'))
        assert torch.equal(coco['inputs'], lvis['inputs'])
        assert torch.equal(coco['inputs'], city['inputs'])
        masks = [s['data_samples'].gt_instances.masks.masks for s in (coco, city)]
        np.testing.assert_array_equal(*masks)


def test_some_pictures_are_empty(made) -> None:
    for split in ('train', 'val'):
        assert any(not info['instances'] for info in read(made, 'coco', split).load_data_list())


def predictions(sample) -> dict:
    """Turn the truth of a sample into a perfect prediction."""
    data = sample['data_samples']
    truth = data.gt_instances
    shape = (len(truth), *data.ori_shape)
    masks = torch.from_numpy(truth.masks.masks.reshape(shape).astype(bool))
    data.pred_instances = InstanceData(
        bboxes=truth.bboxes.tensor, labels=truth.labels, masks=masks, scores=torch.ones(len(truth))
    )
    return data.to_dict()


METRIC = {
    'coco': ('CocoMetric', 'coco/segm_mAP'),
    'lvis': ('LVISMetric', 'lvis/segm_AP'),
    'lvis_v0.5': ('LVISMetric', 'lvis/segm_AP'),
    'cityscapes': ('CityScapesMetric', 'cityscapes/mAP'),
}


@pytest.mark.parametrize('form', METRIC)
def test_stock_metrics_give_the_truth_full_marks(made, form, tmp_path) -> None:
    kind, key = METRIC[form]
    dataset = read(made, form, 'train')
    if form == 'cityscapes':
        settings = dict(seg_prefix=str(made[form] / 'gtFine/train'), outfile_prefix=str(tmp_path))
    else:
        settings = dict(ann_file=str(dataset.ann_file), metric='segm')
    metric = METRICS.build(dict(type=kind, **settings))
    metric.dataset_meta = dataset.metainfo
    metric.process({}, [predictions(sample) for sample in dataset])
    scores = metric.evaluate(len(dataset))
    # Cityscapes ignores objects under 100 pixels as truth but not as predictions.
    assert scores[key] == pytest.approx(1.0, abs=1e-6)


def test_lvis_lists_are_federated(made) -> None:
    for version in ('v1', 'v0.5'):
        data = json.loads((made['lvis'] / f'annotations/lvis_{version}_train.json').read_text())
        assert all('not_exhaustive_category_ids' in image for image in data['images'])
        found = {image['id']: set() for image in data['images']}
        for annotation in data['annotations']:
            found[annotation['image_id']].add(annotation['category_id'])
        for image in data['images']:
            assert not found[image['id']] & set(image['neg_category_ids'])
            assert set(image['not_exhaustive_category_ids']) <= found[image['id']]
        assert any(image['neg_category_ids'] for image in data['images'])
        for category in data['categories']:
            assert category['frequency'] in 'rcf'
            of_class = [a for a in data['annotations'] if a['category_id'] == category['id']]
            assert category['instance_count'] == len(of_class)
            assert category['image_count'] == len({a['image_id'] for a in of_class})


def test_lvis_has_all_frequency_groups_and_gaps_at_its_usual_size(tmp_path) -> None:
    make_shapes(tmp_path / 'lvis', 'lvis', 120, 1, SceneSpec(height=96, width=96))
    data = json.loads((tmp_path / 'lvis/annotations/lvis_v1_train.json').read_text())
    assert {category['frequency'] for category in data['categories']} == set('rcf')
    assert any(image['not_exhaustive_category_ids'] for image in data['images'])


def test_cityscapes_pictures_agree_with_the_json(made) -> None:
    truth = made['cityscapes'] / 'gtFine/train'
    data = COCO(made['cityscapes'] / 'annotations/instancesonly_filtered_gtFine_train.json')
    for image in data.imgs.values():
        ids = cv2.imread(str(truth / image['segm_file']), cv2.IMREAD_UNCHANGED)
        assert ids.dtype == np.uint16
        labels = str(truth / image['segm_file'].replace('instanceIds', 'labelIds'))
        kinds = np.where(ids >= 1000, ids // 1000, ids)
        np.testing.assert_array_equal(cv2.imread(labels, cv2.IMREAD_UNCHANGED), kinds)
        annotations = data.imgToAnns[image['id']]
        assert len(np.unique(ids[ids >= 1000])) == len(annotations)
        for annotation in annotations:
            pixels = ids[data.annToMask(annotation) > 0]
            assert len(np.unique(pixels)) == 1
            assert pixels[0] // 1000 == annotation['category_id']


CLIP_FRAMES = dict(
    type='TransformBroadcaster',
    transforms=[
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale_factor=1.0),
        dict(type='LoadTrackAnnotations', with_mask=True),
    ],
)


def read_clips(made: dict[str, Path], split: str, pipeline: list[dict], **settings: bool):
    return DATASETS.build(
        dict(
            type='YouTubeVISDataset',
            dataset_version='2019',
            data_root=str(made['youtube-vis']),
            ann_file=f'annotations/cocovid_{split}.json',
            data_prefix=dict(img_path=f'{split}/JPEGImages/'),
            metainfo=dict(classes=CLASSES),
            pipeline=pipeline,
            **settings,
        )
    )


def test_stock_video_data_set_samples_pairs_of_frames(made) -> None:
    sample = dict(type='UniformRefFrameSample', num_ref_imgs=1, frame_range=4, filter_key_img=True)
    clips = read_clips(made, 'train', [sample, CLIP_FRAMES, dict(type='PackTrackInputs')])
    assert len(clips) == 3
    for clip in clips:
        assert tuple(clip['inputs'].shape) == (2, 3, 64, 96)
        frames = clip['data_samples'].video_data_samples
        ids = [set(frame.gt_instances.instances_ids.tolist()) for frame in frames]
        assert ids[0] & ids[1]


def test_stock_video_metric_gives_the_truth_full_marks(made) -> None:
    pack = [CLIP_FRAMES, dict(type='PackTrackInputs')]
    clips = read_clips(made, 'val', pack, test_mode=True)
    metric = METRICS.build(dict(type='YouTubeVISMetric', metric='youtube_vis_ap'))
    metric.dataset_meta = clips.metainfo
    for clip in clips:
        track = clip['data_samples']
        assert len(track) == 8
        for frame in track:
            truth = frame.gt_instances
            shape = (len(truth), *frame.ori_shape)
            frame.pred_track_instances = InstanceData(
                bboxes=truth.bboxes,
                labels=truth.labels,
                masks=torch.from_numpy(truth.masks.masks.reshape(shape).astype(bool)),
                scores=torch.ones(len(truth)),
                instances_id=truth.instances_ids,
            )
        metric.process({}, [track.to_dict()])
    assert metric.evaluate(len(clips))['youtube_vis/segm_mAP'] == pytest.approx(1.0)


def test_clips_move_leave_and_agree_with_the_official_layout(made) -> None:
    folder = made['youtube-vis'] / 'annotations'
    official = json.loads((folder / 'youtube_vis_2019_train.json').read_text())
    frames = json.loads((folder / 'cocovid_train.json').read_text())
    assert [v['length'] for v in official['videos']] == [8] * 3
    by_track = {track['id']: track for track in official['annotations']}
    image_of = {image['id']: image for image in frames['images']}
    for record in frames['annotations']:
        track, image = by_track[record['instance_id']], image_of[record['image_id']]
        assert track['video_id'] == image['video_id'] == record['video_id']
        assert track['segmentations'][image['frame_id']] == record['segmentation']
        assert coco_mask.area(record['segmentation']) == record['area']
    present = [sum(s is not None for s in t['segmentations']) for t in official['annotations']]
    assert sum(present) == len(frames['annotations'])
    assert min(present) >= 1
    boxes = [[b for b in t['bboxes'] if b] for t in official['annotations']]
    assert all(len({tuple(b) for b in track}) > 1 for track in boxes if len(track) > 1)


def test_objects_of_clips_cross(tmp_path) -> None:
    make_shapes(tmp_path / 'vis', 'youtube-vis', 4, 1, SPEC, seed=1)
    data = json.loads((tmp_path / 'vis/annotations/youtube_vis_2019_train.json').read_text())
    swaps = 0
    for video in data['videos']:
        tracks = [t['bboxes'] for t in data['annotations'] if t['video_id'] == video['id']]
        for i, first in enumerate(tracks):
            for second in tracks[:i]:
                gaps = [a[0] - b[0] for a, b in zip(first, second) if a and b]
                swaps += bool(gaps) and min(gaps) < 0 < max(gaps)
    assert swaps > 4


def tree_digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob('*') if p.is_file()):
        digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()


@pytest.mark.parametrize(
    ('form', 'expected'),
    [
        ('coco', 'b4fceb2921bcdf660ea478232fa2d2db8316b2c09fdbf7958aa2805d8ef3dda5'),
        ('lvis', '73ffde0949b0bda0f5643b0f638528fb38806f88bdca8f523776fdb125d53af0'),
        ('cityscapes', 'cda37fe447afbdf47c1ad8efcf2301f997fd3298e4719e6d3f57cd47a832571e'),
        ('youtube-vis', 'bad70a1a75b9e239368726daed3181bf8ba3fda21b364d4625d062dd7ab495cc'),
    ],
)
def test_files_are_the_same_on_every_machine(form, expected, tmp_path) -> None:
    make_shapes(tmp_path / 'set', form, 2, 1, SceneSpec(height=64, width=64), seed=11)
    # Raise VERSION in make.py when this changes.
    assert tree_digest(tmp_path / 'set') == expected


def test_more_pictures_leave_the_first_ones_alone(tmp_path, made) -> None:
    make_shapes(tmp_path / 'more', 'coco', 14, 1, SPEC, seed=3)
    for path in (made['coco'] / 'train').iterdir():
        assert path.read_bytes() == (tmp_path / 'more/train' / path.name).read_bytes()


def test_the_command_writes_repeats_and_refuses(tmp_path, command) -> None:
    out = tmp_path / 'deep/er/shapes'
    first = command('make_shapes', out, '--num', 2, '--val', 1, '--size', 40, 64, '--seed', 5)
    assert first.status == 0, first.err
    assert 'shapes: written' in first.out
    readme = (out / 'README.md').read_text()
    assert '--format coco --num 2 --val 1 --size 40 64 --seed 5' in readme
    assert cv2.imread(str(out / 'train/000000000001.png')).shape == (40, 64, 3)
    before = tree_digest(out)
    again = command('make_shapes', out, '--num', 2, '--val', 1, '--size', 40, 64, '--seed', 5)
    assert again.status == 0
    assert 'already there' in again.out
    other = command('make_shapes', out, '--num', 3)
    assert other.status == 1
    assert 'exists and is not empty' in other.err
    assert 'Traceback' not in other.err
    assert tree_digest(out) == before


@pytest.mark.parametrize(
    ('settings', 'word'),
    [
        ({'form': 'voc'}, 'voc'),
        ({'train': 0}, 'train 0'),
        ({'val': 0}, 'val 0'),
        ({'seed': -1}, '-1'),
    ],
)
def test_senseless_requests_are_refused(settings, word, tmp_path) -> None:
    with pytest.raises(ValueError, match=word):
        make_shapes(tmp_path / 'set', **settings)
    assert not (tmp_path / 'set').exists()


def test_an_interrupted_run_leaves_nothing_and_can_be_repeated(tmp_path, monkeypatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(WRITERS, 'coco', stop)
    with pytest.raises(KeyboardInterrupt):
        make_shapes(tmp_path / 'set', 'coco', 2, 1, SPEC)
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    # What a killed process leaves: a partial folder with our marker.
    (tmp_path / '.set.partial').mkdir()
    (tmp_path / '.set.partial/shapes.json').write_text('{}')
    assert make_shapes(tmp_path / 'set', 'coco', 2, 1, SPEC)
    assert [p.name for p in tmp_path.iterdir()] == ['set']


def test_foreign_folders_are_left_alone(tmp_path) -> None:
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine/thesis.txt').write_text('precious')
    (tmp_path / '.other.partial').mkdir()
    for name in ('mine', 'other'):
        with pytest.raises(FileExistsError, match=name):
            make_shapes(tmp_path / name, 'coco', 2, 1, SPEC)
    assert (tmp_path / 'mine/thesis.txt').read_text() == 'precious'
    assert (tmp_path / '.other.partial').is_dir()


def test_a_place_that_cannot_be_written_is_named(tmp_path) -> None:
    (tmp_path / 'file').write_text('')
    with pytest.raises(PermissionError, match='file'):
        make_shapes(tmp_path / 'file/set', 'coco', 2, 1, SPEC)
