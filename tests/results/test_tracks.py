"""Tracks as film strips score as YouTube-VIS's own evaluation does."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation.clips import LENGTH, make_clips
from evaluation.references import STOCK_NAMES, video_scores
from evaluation.scenes import NAMES, blob, text_rle
from locations import data_directory
from mmdet.registry import METRICS
from mmdet.structures import DetDataSample, TrackDataSample
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask

from mmrefine.evaluation import (
    evaluate,
    numpy_names,  # noqa: F401  (for the official code)
)
from mmrefine.evaluation.protocols import VIDEO_AREAS, Rules
from mmrefine.evaluation.score_file import score_file
from mmrefine.evaluation.video_metric import iterate_frames
from mmrefine.results.tracks import VideoTruth, join_frames, load_tracks, mean_area

RULES = Rules((1, 10, 100), dict(VIDEO_AREAS), crowd_overlap=False)


@pytest.mark.parametrize('seed', range(4))
def test_equal_to_the_youtube_vis_evaluation(seed: int) -> None:
    truth, results = make_clips(seed)
    clips = VideoTruth(truth)
    found = evaluate(clips.strips, load_tracks(results, clips), ['segm'], RULES).numbers
    for name, value in video_scores(truth, results, RULES)[0].items():
        assert found[f'segm_{name}'] == pytest.approx(value, abs=1e-9), name


def test_strips_hold_the_frames_side_by_side() -> None:
    rng = np.random.default_rng(0)
    masks = [np.ones((7, 5), np.uint8), blob(rng, 7, 5), None, np.ones((7, 5), np.uint8)]
    frames = [None if m is None else text_rle(m)['counts'].encode() for m in masks]
    strip = coco_mask.decode({'size': [7, 20], 'counts': join_frames(frames, (7, 5))})
    expected = np.concatenate([np.zeros((7, 5), np.uint8) if m is None else m for m in masks], 1)
    np.testing.assert_array_equal(strip, expected)
    assert coco_mask.area({'size': [7, 10], 'counts': join_frames([None, None], (7, 5))}) == 0


def perfect_tracks(truth: dict) -> list[dict]:
    keys = ('video_id', 'category_id', 'segmentations')
    return [{k: a[k] for k in keys} | {'score': 0.9} for a in truth['annotations']]


def test_truth_as_prediction_scores_one() -> None:
    folder = data_directory()
    files = sorted(folder.rglob('youtube_vis_2019_*.json')) if folder else []
    for truth in [make_clips(9)[0], *(json.loads(f.read_text()) for f in files)]:
        for annotation in truth['annotations']:
            annotation['iscrowd'] = 0
        clips = VideoTruth(truth)
        dt = load_tracks(perfect_tracks(truth), clips)
        for backend in ('pycocotools', 'vernier'):
            numbers = evaluate(clips.strips, dt, ['segm'], RULES, backend).numbers
            assert numbers['segm_AP'] == pytest.approx(1, abs=1e-9)


def frame_sample(video: dict, number: int, tracks: list[tuple], dense: bool, truth: list) -> dict:
    """What a video model and its data set hand to the metric for one frame."""
    h, w = video['height'], video['width']
    rles = [mask for _, _, _, mask in tracks]
    masks = torch.zeros((len(rles), h, w), dtype=torch.bool)
    for i, rle in enumerate(rles):
        masks[i] = torch.from_numpy(coco_mask.decode(rle)).bool()
    meta = {
        'video_id': video['id'],
        'frame_id': number,
        'ori_video_length': LENGTH,
        'ori_shape': (h, w),
        'instances': truth,
    }
    frame = DetDataSample(metainfo=meta)
    frame.pred_track_instances = InstanceData(
        bboxes=torch.zeros((len(rles), 4)),
        scores=torch.tensor([float(score) for _, score, _, _ in tracks], dtype=torch.float64),
        labels=torch.tensor([label for _, _, label, _ in tracks], dtype=torch.long),
        instances_id=torch.tensor([key for key, _, _, _ in tracks], dtype=torch.long),
        masks=masks if dense else rles,
    )
    sample = TrackDataSample()
    sample.video_data_samples = [frame]
    return sample.to_dict()


def samples_of(truth: dict, results: list, dense: bool) -> list[dict]:
    samples = []
    for video in truth['videos']:
        own = [r for r in results if r['video_id'] == video['id']]
        real = [a for a in truth['annotations'] if a['video_id'] == video['id']]
        for t in range(LENGTH):
            tracks = [
                (key, r['score'], r['category_id'] - 1, r['segmentations'][t])
                for key, r in enumerate(own)
                if r['segmentations'][t] is not None
            ]
            instances = [
                {
                    'instance_id': a['id'],
                    'bbox_label': a['category_id'] - 1,
                    'ignore_flag': a['iscrowd'],
                    'mask': a['segmentations'][t],
                }
                for a in real
                if a['segmentations'][t] is not None
            ]
            samples.append(frame_sample(video, t, tracks, dense, instances))
    return samples


def repeated(sample: dict) -> dict:
    """The frame of a sample without tracks."""
    (frame,) = iterate_frames([sample])
    nothing = {key: value[:0] for key, value in frame['pred_track_instances'].items()}
    return {**frame, 'pred_track_instances': nothing}


def test_the_area_of_a_track_is_that_of_the_frames_it_is_seen_in() -> None:
    masks = [np.zeros((7, 5), np.uint8), np.ones((7, 5), np.uint8)]
    frames = [text_rle(m)['counts'].encode() for m in masks]
    assert mean_area([*frames, None]) == 35
    assert mean_area(frames[:1]) == mean_area([None]) == 0


@pytest.mark.parametrize('dense', [True, False])
def test_metric_gathers_frames_in_any_order(dense: bool) -> None:
    truth, results = make_clips(6)
    clips = VideoTruth(truth)
    expected = evaluate(clips.strips, load_tracks(results, clips), ['segm'], RULES).numbers
    samples = samples_of(truth, results, dense)
    metric = METRICS.build({'type': 'VideoMaskAPMetric', 'show_progress': False})
    metric.dataset_meta = {'classes': NAMES}
    for i in np.random.default_rng(0).permutation(len(samples)):
        metric.process({}, [samples[i]])
    # Another rank's repetition, of which a tracker that goes on may make something else.
    metric.process({}, [{'video_data_samples': [repeated(samples[0])]}])
    found = metric.evaluate(len(samples))
    assert len(found) == len(expected)
    for name, value in expected.items():
        stock = STOCK_NAMES[name.removeprefix('segm_')]
        assert found[f'youtube_vis/segm_{stock}'] == pytest.approx(value, abs=1e-9), name


@pytest.mark.parametrize('classes', [('bee', 'cat'), ('cat', 'bee', 'dog')])
def test_labels_number_the_classes_of_the_data_set_in_the_order_of_the_file(
    tmp_path: Path, classes: tuple[str, ...]
) -> None:
    """As YouTubeVISDataset does: the file has ant, bee and cat, so that 0 is bee."""
    truth, results = make_clips(6)
    results = [r for r in results if r['category_id'] > 1]
    (tmp_path / 'gt.json').write_text(json.dumps(truth))
    metric = METRICS.build(
        {
            'type': 'VideoMaskAPMetric',
            'ann_file': f'{tmp_path}/gt.json',
            'outfile_prefix': f'{tmp_path}/vis',
            'show_progress': False,
        }
    )
    metric.dataset_meta = {'classes': classes}
    lower = [{**r, 'category_id': r['category_id'] - 1} for r in results]
    metric.process({}, samples_of(truth, lower, False))
    found = metric.evaluate(1)['youtube_vis/segm_mAP']
    clips = VideoTruth(truth)
    strips = clips.strips.of_classes(['bee', 'cat'])
    expected = evaluate(strips, load_tracks(results, clips), ['segm'], RULES).numbers
    assert found == pytest.approx(expected['segm_AP'], abs=1e-9) and found > 0.1
    written = load_tracks(f'{tmp_path}/vis.json', clips).category_ids
    assert sorted(written) == sorted(r['category_id'] for r in results)


@pytest.mark.parametrize(
    ('classes', 'label', 'reason'),
    [
        (('x', 'y'), 0, 'gt.json has none of the classes x, y; its categories are ant, bee, cat'),
        (('bee',), 1, 'label 1, but there are 1 categories'),
        (('bee',), -1, 'label -1, but there are 1 categories'),
    ],
)
def test_labels_without_a_category_are_refused(
    tmp_path: Path, classes: tuple[str, ...], label: int, reason: str
) -> None:
    truth, results = make_clips(6)
    (tmp_path / 'gt.json').write_text(json.dumps(truth))
    metric = METRICS.build({'type': 'VideoMaskAPMetric', 'ann_file': f'{tmp_path}/gt.json'})
    metric.dataset_meta = {'classes': classes}
    same = [{**r, 'category_id': label + 1} for r in results]
    metric.process({}, samples_of(truth, same, False))
    with pytest.raises(ValueError, match=reason):
        metric.evaluate(1)


def test_options_of_the_stock_metric() -> None:
    truth, results = make_clips(6)
    options = {'metric': ['youtube_vis_ap'], 'metric_items': ['mAP', 'AR@10']}
    metric = METRICS.build({'type': 'VideoMaskAPMetric', **options})
    metric.dataset_meta = {'classes': NAMES}
    metric.process({}, samples_of(truth, results, False))
    found = metric.evaluate(1)
    assert list(found) == ['youtube_vis/segm_mAP', 'youtube_vis/segm_AR@10']
    for wrong in ('bbox', ['segm', 'bbox'], []):
        with pytest.raises(ValueError, match="metric must be 'segm'"):
            METRICS.build({'type': 'VideoMaskAPMetric', 'metric': wrong})


def test_frames_that_were_not_predicted_are_an_error() -> None:
    truth, results = make_clips(6)
    metric = METRICS.build({'type': 'VideoMaskAPMetric', 'show_progress': False})
    metric.dataset_meta = {'classes': NAMES}
    samples = samples_of(truth, results, dense=False)
    metric.process({}, samples[1:])
    with pytest.raises(ValueError, match=r'1 frames \(video, number\) were not predicted'):
        metric.evaluate(len(samples) - 1)


def test_metric_writes_a_submission(tmp_path: object) -> None:
    truth, results = make_clips(6)
    metric = METRICS.build(
        {'type': 'VideoMaskAPMetric', 'format_only': True, 'outfile_prefix': f'{tmp_path}/vis'}
    )
    metric.dataset_meta = {'classes': NAMES}
    metric.process({}, samples_of(truth, results, dense=False))
    assert metric.evaluate(1) == {}
    clips = VideoTruth(truth)
    written = load_tracks(f'{tmp_path}/vis.json', clips)
    expected = evaluate(clips.strips, load_tracks(results, clips), ['segm'], RULES).numbers
    assert evaluate(clips.strips, written, ['segm'], RULES).numbers == pytest.approx(expected)


@pytest.mark.parametrize(
    ('labels', 'category'),
    [((2, 1, 1, 1), 2), ((1, 2, 2, 0), 3), ((2, 2, 0, 0), 1)],
)
def test_a_track_has_its_mean_score_and_most_frequent_category(
    tmp_path: object, labels: tuple[int, ...], category: int
) -> None:
    """Of equally frequent categories the lower one."""
    video = {'id': 1, 'height': 30, 'width': 40}
    metric = METRICS.build(
        {'type': 'VideoMaskAPMetric', 'format_only': True, 'outfile_prefix': f'{tmp_path}/vis'}
    )
    metric.dataset_meta = {'classes': NAMES}
    mask = coco_mask.encode(np.asfortranarray(np.ones((30, 40), np.uint8)))
    for t, (label, score) in enumerate(zip(labels, (0.9, 0.1, 0.2, 0.4))):
        metric.process({}, [frame_sample(video, t, [(5, score, label, mask)], False, [])])
    metric.evaluate(4)
    (track,) = json.loads((Path(tmp_path) / 'vis.json').read_text())
    assert track['category_id'] == category and track['score'] == pytest.approx(0.4)


def test_a_track_id_given_twice_in_a_frame_is_refused() -> None:
    truth, results = make_clips(6)
    sample = next(s for s in samples_of(truth, results, False) if len(ids(s)) > 1)
    ids(sample)[:] = 3
    metric = METRICS.build({'type': 'VideoMaskAPMetric'})
    with pytest.raises(ValueError, match='track id 3 is given to more than one instance'):
        metric.process({}, [sample])


def ids(sample: dict) -> torch.Tensor:
    return sample['video_data_samples'][0].pred_track_instances.instances_id


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        ({'video_id': 99}, 'video_id 99'),
        ({'video_id': [1]}, r'video_id \[1\]'),
        ({'category_id': 99}, 'category_id 99'),
        ({'score': float('nan')}, 'score nan'),
        ({'segmentations': [None]}, 'a list of 4 masks or nulls'),
        ({'segmentations': {'size': [1, 1], 'counts': '1'}}, 'a list of 4 masks or nulls'),
        ({'segmentations': [{'size': [3, 3], 'counts': '9'}] + [None] * 3}, 'frame 0: the RLE has'),
    ],
)
def test_tracks_that_make_no_sense_are_named(change: dict, reason: str) -> None:
    truth, results = make_clips(0)
    clips = VideoTruth(truth)
    with pytest.raises(ValueError, match=rf'results\[1\].*{reason}'):
        load_tracks([results[0], {**results[1], **change}], clips)


def test_unknown_tracks_can_be_dropped(tmp_path: Path) -> None:
    truth, results = make_clips(0)
    more = [{**results[0], 'video_id': 99}, {**results[0], 'category_id': 99}]
    files = {'gt': truth, 'results': results, 'more': [more[0], *results, more[1]]}
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    gt = tmp_path / 'gt'
    expected, _ = score_file(gt, tmp_path / 'results', 'youtube-vis', show_progress=False)
    with pytest.raises(ValueError, match=r'results\[0\] .*unknown video_id 99, .*--unknown drop'):
        score_file(gt, tmp_path / 'more', 'youtube-vis')
    found, _ = score_file(gt, tmp_path / 'more', 'youtube-vis', unknown='drop', show_progress=False)
    assert found == expected and 0 < found['segm_AP'] < 1
    with pytest.raises(ValueError, match="'error' or 'drop'"):
        load_tracks(results, VideoTruth(truth), 'keep')


def test_options_without_use_are_refused(tmp_path: Path) -> None:
    for options, named in (
        ({'box_areas': True}, r'youtube-vis has no use for --box-areas \(box_areas\)'),
        ({'dilation_ratio': 0.01}, '--dilation-ratio'),
    ):
        with pytest.raises(ValueError, match=named):
            score_file(tmp_path, tmp_path, 'youtube-vis', **options)


def of_video(**changes: object) -> dict:
    return {'videos': [{'id': 1, 'height': 9, 'width': 9, 'length': 2, **changes}]}


def of_track(**changes: object) -> dict:
    track = {'id': 1, 'video_id': 1, 'category_id': 1, 'segmentations': [None, None]}
    return {**of_video(), 'annotations': [{**track, **changes}]}


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        ({'videos': {}}, '"videos" is a dict, expected a list'),
        ({'videos': [3]}, r'videos\[0\] has no id'),
        ({'videos': [{'height': 3, 'width': 3, 'length': 1}]}, r'videos\[0\] has no id'),
        (
            {'videos': [{'id': 1, 'height': None, 'width': 3, 'length': 1}]},
            r'videos\[0\] \(id 1\) has no width and height',
        ),
        (
            {'videos': make_clips(0)[0]['videos'][:1] * 2},
            r'videos\[1\] has the id 1, which occurs twice',
        ),
        ({'videos': [{'id': [1]}]}, r'videos\[0\] has the id \[1\]'),
        (of_video(height=-100), r'\(id 1\) has 9 x -100 pixels: expected whole numbers above 0'),
        (of_video(height=100.7), 'has 9 x 100.7 pixels'),
        (of_video(height='abc'), "numbers .it has 9, 'abc'"),
        (of_video(length=2.9), 'video 1 has the length 2.9 and 0 file_names: expected a whole'),
        (of_video(length=None), 'video 1 has the length None and 0 file_names'),
        (of_video(file_names=5), 'length 2 and 5 file_names'),
        (of_video(file_names=['a', 'b', 'c']), 'length 2 and 3 file_names: .*a name a frame'),
        ({'annotations': 5}, '"annotations" is a int, expected a list'),
        (of_track(areas=5), r'annotations\[0\] has the areas 5: expected 2 numbers or nulls'),
        (of_track(areas=['9', None]), 'has the areas'),
        (of_track(areas=[9]), 'has the areas'),
        (of_track(areas=[[9], [9]]), 'has the areas'),
        (of_track(areas=[-9, 9]), 'has the areas'),
        ({'annotations': ['a']}, r'annotations\[0\] must be an object'),
        ({'annotations': [{'video_id': [1]}]}, r'belongs to video \[1\], which is not listed'),
    ],
)
def test_files_of_videos_are_checked(change: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        VideoTruth({**make_clips(0)[0], **change})


def test_lengths_and_areas_may_be_left_out() -> None:
    truth = {**make_clips(0)[0], **of_track(areas=None)}
    for names, length in ((['a', 'b'], None), (['a', 'b'], 2.0), (None, 2)):
        truth['videos'] = of_video(file_names=names, length=length)['videos']
        assert VideoTruth(truth).videos == {1: (9, 9, 2)}
