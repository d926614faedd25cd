"""From annotation files through mmdet's video data sets into the model, and back out as scores."""

import json
import warnings

import cv2
import numpy as np
import pytest
import torch
from locations import ROOT
from mmdet.datasets import YouTubeVISDataset
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from shapes import SceneSpec, make_shapes
from tiny_sipmask_video import tiny_video_config, tiny_video_model

SIDE = 96


def write_clips(folder, videos: list[list[list[dict]]]) -> None:
    """Clips in CocoVID layout: per video and frame the objects (id, box, perhaps crowd, and fields
    to change)."""
    images, annotations = [], []
    for video, frames in enumerate(videos, start=1):
        for number, objects in enumerate(frames):
            name = f'{video}/{number}.png'
            path = folder / 'train' / 'JPEGImages' / name
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.full((SIDE, SIDE, 3), 40 * number, np.uint8))
            images.append({
                'id': len(images) + 1, 'file_name': name, 'width': SIDE, 'height': SIDE,
                'frame_id': number, 'video_id': video,
            })  # fmt: skip
            for one in objects:
                x, y, w, h = one['box']
                annotations.append({
                    'id': len(annotations) + 1, 'image_id': len(images), 'video_id': video,
                    'category_id': 1, 'instance_id': one['id'], 'iscrowd': one.get('crowd', 0),
                    'bbox': one['box'], 'area': w * h,
                    'segmentation': [[x, y, x + w, y, x + w, y + h, x, y + h]],
                } | one.get('changes', {}))  # fmt: skip
    (folder / 'annotations').mkdir()
    names = [{'id': 1, 'name': 'a'}, {'id': 2, 'name': 'b'}, {'id': 3, 'name': 'c'}]
    content = {
        'images': images, 'annotations': annotations, 'categories': names,
        'videos': [{'id': n + 1, 'name': str(n + 1)} for n in range(len(videos))],
    }  # fmt: skip
    (folder / 'annotations' / 'cocovid_train.json').write_text(json.dumps(content))


def training_set(folder, **changes) -> YouTubeVISDataset:
    config = Config.fromfile(ROOT / 'configs' / '_base_' / 'video_loaders.py')
    init_default_scope('mmdet')
    return DATASETS.build({
        **config.train_dataloader.dataset, 'data_root': str(folder),
        'metainfo': {'classes': ('a', 'b', 'c')}, **changes,
    })  # fmt: skip


def losses_of(dataset, *places: tuple[int, int]) -> tuple[dict, list]:
    model = tiny_video_model()
    data = model.data_preprocessor(pseudo_collate([dataset[place] for place in places]), True)
    return model.loss(data['inputs'], data['data_samples']), data['data_samples']


def test_crowds_leave_boxes_masks_and_ids_together(tmp_path):
    crowd = {'id': 1, 'box': [0, 0, 90, 90], 'crowd': 1}
    first, second = {'id': 2, 'box': [8, 8, 40, 40]}, {'id': 3, 'box': [50, 40, 30, 44]}
    write_clips(tmp_path, [[[crowd, first, second], [second, crowd, first]]])
    losses, samples = losses_of(training_set(tmp_path), (0, 0))
    for frame in samples[0]:
        gt = frame.gt_instances
        assert sorted(gt.instances_ids.tolist()) == [2, 3]
        areas = (gt.bboxes[:, 2:] - gt.bboxes[:, :2]).prod(dim=1)
        covered = torch.tensor([float(mask.sum()) for mask in gt.masks.to_ndarray()])
        torch.testing.assert_close(areas, covered.to(areas), rtol=0.1, atol=0)
        assert len(frame.ignored_instances.bboxes) == 1
    assert torch.isfinite(losses['loss_match']) and losses['loss_match'] > 0


@pytest.mark.parametrize('kind', ['CheckedYouTubeVISDataset', 'YouTubeVISDataset'])
def test_objects_without_a_mask_are_left_out_with_a_word(kind, tmp_path):
    bare = [
        {'id': n, 'box': [50, 40, 30, 44], 'changes': {'segmentation': mask}}
        for n, mask in enumerate((None, [], {}), start=1)
    ]
    whole = {'id': 9, 'box': [8, 8, 40, 40]}
    write_clips(tmp_path, [[[*bare, whole], [whole, *bare]]])
    dataset = training_set(tmp_path, type=kind)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        losses, samples = losses_of(dataset, (0, 0))
    said = any('without a mask are left out' in str(warning.message) for warning in caught)
    assert said == (kind == 'YouTubeVISDataset')  # the other one has counted them
    for frame in samples[0]:
        assert frame.gt_instances.instances_ids.tolist() == [9]
        assert len(frame.gt_instances.masks) == 1
    assert torch.isfinite(losses['loss_match'])
    with pytest.raises(ValueError, match=r'without a mask.* \(6: 1, 2, 3, 6, 7'):
        training_set(tmp_path, type='CheckedYouTubeVISDataset', strict=True)


@pytest.mark.parametrize(
    ('identities', 'wrong'),
    [
        ((1, 2, 2, 1), ''),
        ((1, 2, 1, 2.0), ''),
        ((0, 1, 0, 1), '2: 1, 3'),
        ((None, 1, 1, 2), '1: 1'),
        ((1, 2, 3, 3), '1: 4'),
        ((1, 2, 'a', 1.5), '2: 3, 4'),
    ],
)
def test_identities_that_would_be_taken_for_others_are_refused(
    identities, wrong, tmp_path, command
):
    boxes = [8, 8, 40, 40], [50, 40, 30, 44]
    objects = [{'id': key, 'box': boxes[n % 2]} for n, key in enumerate(identities)]
    crowd = {'id': 0, 'box': boxes[0], 'crowd': 1}
    write_clips(tmp_path, [[objects[:2], [*objects[2:], crowd]]])
    file = tmp_path / 'annotations' / 'cocovid_train.json'
    if not wrong:
        frames = training_set(tmp_path).get_data_info(0)['images']
        found = [i['instance_id'] for f in frames for i in f['instances'] if not i['ignore_flag']]
        assert found == list(identities)
        return
    with pytest.raises(ValueError, match=rf'whose instance_id is no whole number.*\({wrong}\)'):
        training_set(tmp_path)
    assert f'({wrong})' in command('check_annotations', file).out
    content = json.loads(file.read_text())
    for image in content['images']:
        del image['video_id']
    file.write_text(json.dumps(content))
    assert len(training_set(tmp_path)) == 2  # two images, of no video


@pytest.mark.parametrize(
    'mask', [{'size': [SIDE, SIDE], 'counts': '1' * 5000}, [[1e12, 8, 9, 9, 8, 9]]]
)
def test_masks_that_cannot_be_drawn_are_named_before_pycocotools_sees_them(mask, tmp_path):
    broken = {'id': 1, 'box': [8, 8, 40, 40], 'changes': {'segmentation': mask}}
    write_clips(tmp_path, [[[broken], [broken]]])
    with pytest.raises(ValueError, match='cocovid_train.json cannot be used'):
        training_set(tmp_path)
    with pytest.raises(ValueError, match=r'1/0\.png, object 0: '):
        training_set(tmp_path, type='YouTubeVISDataset')[0, 0]


def test_a_file_in_the_layout_of_youtube_vis_names_the_converter(tmp_path):
    write_clips(tmp_path, [[[{'id': 1, 'box': [8, 8, 60, 60]}]]])
    content = {'videos': [], 'annotations': [], 'categories': []}
    (tmp_path / 'annotations' / 'cocovid_train.json').write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r'cocovid_train.json .*youtubevis2coco.py'):
        training_set(tmp_path)


def test_a_video_of_one_frame_and_one_of_crowds_alone_train(tmp_path):
    alone = [[{'id': 1, 'box': [8, 8, 60, 60]}]]
    crowd = {'id': 2, 'box': [0, 0, 90, 90], 'crowd': 1}
    write_clips(tmp_path, [alone, [[crowd], [crowd]]])
    losses, samples = losses_of(training_set(tmp_path), (0, 0), (1, 1))
    assert [len(samples[0][n].gt_instances) for n in range(2)] == [1, 1]
    assert [len(samples[1][n].gt_instances) for n in range(2)] == [0, 0]
    total = sum(value for name, value in losses.items() if name.startswith('loss'))
    total.backward()
    assert torch.isfinite(total)


def test_more_than_a_hundred_objects_train(tmp_path):
    grid = [[8.0 * (n % 11), 8.0 * (n // 11), 7.0, 7.0] for n in range(121)]
    frames = [[{'id': n + 1, 'box': box} for n, box in enumerate(grid)] for _ in range(2)]
    write_clips(tmp_path, [frames])
    losses, samples = losses_of(training_set(tmp_path), (0, 0))
    assert len(samples[0][0].gt_instances) == 121
    assert torch.isfinite(losses['loss_match']) and losses['loss_match'] > 0


def test_an_unreadable_frame_is_named(tmp_path):
    write_clips(tmp_path, [[[{'id': 1, 'box': [8, 8, 60, 60]}]] * 2])
    (tmp_path / 'train' / 'JPEGImages' / '1' / '1.png').write_bytes(b'no picture')
    with pytest.raises((AssertionError, OSError), match='1/1.png'):
        training_set(tmp_path)[0, 1]


@pytest.mark.slow
def test_generated_clips_train_validate_and_give_a_submission(tmp_path, monkeypatch):
    data = tmp_path / 'data'
    make_shapes(data, 'youtube-vis', train=2, val=1, spec=SceneSpec(64, 64))
    monkeypatch.setenv('MMREFINE_SHAPES_VIDEO', str(data))
    config = Config.fromfile(ROOT / 'configs' / 'sipmask' / 'sipmask-vis_tiny_shapes.py')
    model = tiny_video_config(box={'num_classes': 8}, test={'score_thr': 0.005})
    config.merge_from_dict({
        'work_dir': str(tmp_path / 'work'), 'train_cfg.max_iters': 2, 'train_cfg.val_interval': 2,
        'val_evaluator.0.outfile_prefix': str(tmp_path / 'out'), 'visualizer': None,
    })  # fmt: skip
    config.model = model
    runner = Runner.from_cfg(config)
    scores = runner.train() and runner.val()
    assert {'youtube_vis/segm_mAP', 'youtube_vis/segm_AR@10', 'tracks/id_switches'} <= set(scores)
    assert json.loads((tmp_path / 'out.json').read_text()) is not None
    assert (tmp_path / 'out.submission_file.zip').is_file()
