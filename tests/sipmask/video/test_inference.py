"""Frames in memory, folders and video files."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny_sipmask
import torch
from mmcv.transforms import LoadImageFromFile, TransformBroadcaster
from mmdet.apis import inference_mot, init_track_model
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.structures import InstanceData
from pycocotools.mask import frPyObjects
from tiny_sipmask_video import clip, frame, tiny_video_config, tiny_video_model

from mmrefine.apis.video import VideoSegmenter, draw_tracks, frame_pipeline
from mmrefine.apis.video_files import Clip, FrameWriter
from mmrefine.masks import to_dense
from mmrefine.results.track_file import TrackFile
from mmrefine.results.tracks import VideoTruth, load_tracks
from mmrefine.sipmask.video.detector import SipMaskVIS
from tools.track_video import main

STEPS = [
    {
        'type': 'TransformBroadcaster',
        'transforms': [
            {'type': 'LoadImageFromFile'},
            {'type': 'Resize', 'scale_factor': 1.0},
            {'type': 'LoadTrackAnnotations', 'with_mask': True},
        ],
    },
    {'type': 'PackTrackInputs'},
]


@pytest.mark.parametrize('scope', ['', 'mmdet.'])
def test_single_frames_take_no_loaders(scope):
    steps = [{**step, 'type': scope + step['type']} for step in STEPS[0]['transforms']]
    broadcaster = {'type': f'{scope}TransformBroadcaster', 'transforms': steps}
    kept = frame_pipeline([broadcaster, STEPS[1]])
    assert kept == [{'type': 'mmdet.LoadImageFromNDArray'}, steps[1]]
    steps[0]['type'] = LoadImageFromFile
    assert frame_pipeline([{**broadcaster, 'type': TransformBroadcaster}]) == kept


def picture(seed: int = 0, size: tuple[int, int] = (96, 128)) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 255, (size[0] // 8, size[1] // 8, 3), np.uint8)
    return cv2.resize(noise, size[::-1], interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'in').mkdir()
    for number in (1, 2, 10):
        cv2.imwrite(str(tmp_path / 'in' / f'{number}.png'), picture(number))
    return tmp_path / 'in'


DATA = {
    'type': 'YouTubeVISDataset', 'dataset_version': '2019', 'ann_file': '',
    'pipeline': STEPS, 'metainfo': {'classes': list('abc')},
}  # fmt: skip


def config_of(dataset: dict = DATA) -> Config:
    test = {'dataset': dataset}
    return Config({'default_scope': 'mmdet', 'model': tiny_video_config(), 'test_dataloader': test})


def ready_model(dataset: dict = DATA) -> SipMaskVIS:
    """The tiny model, as ``load_model`` gives it."""
    model = tiny_video_model()
    model.cfg, model.dataset_meta = config_of(dataset), {'classes': tuple('abc')}
    return model


@pytest.fixture
def files(tmp_path):
    """A config file and its weights."""
    config_of().dump(tmp_path / 'config.py')
    torch.save({'state_dict': tiny_video_model().state_dict()}, tmp_path / 'weights.pth')
    return str(tmp_path / 'config.py'), str(tmp_path / 'weights.pth')


def test_stock_function_tracks_frame_after_frame(files):
    config, weights = files
    model = init_track_model(config, weights, device='cpu')
    ids = []
    for begin in (0, 2):
        for number in range(3):
            result = inference_mot(model, picture(begin), frame_id=number, video_len=3)
            found = result.video_data_samples[0].pred_track_instances
            ids.append(found.instances_id.tolist())
            assert len(found.masks) == len(found) > 0
        # The same picture: the same objects. A first frame: a video that counts from 0 again.
        assert set(ids[-1]) <= set(ids[-3]) and ids[-3][0] == 0
        assert model.tracker.memory('clip 0').frames == 3


def objects(*ids: int, size: tuple[int, int] = (96, 128)) -> InstanceData:
    """Objects whose masks are single pixels at column ``id`` of row 0."""
    masks = [{'size': list(size), 'counts': [i * size[0], 1, size[0] * size[1] - i * size[0] - 1]}
             for i in ids]  # fmt: skip
    return InstanceData(
        instances_id=torch.tensor(ids, dtype=torch.long),
        labels=torch.tensor(ids, dtype=torch.long) % 3,
        scores=torch.linspace(0.9, 0.5, len(ids)),
        masks=[frPyObjects(mask, *size) for mask in masks],
    )


def test_frames_in_memory_equal_a_clip():
    # a wrapped data set, too, has the pipeline of its videos
    model = ready_model({'type': 'ConcatDataset', 'datasets': [DATA]})
    images = [picture(n) for n in range(3)]
    segmenter = VideoSegmenter(model)
    ours = [segmenter(image) for image in images]
    data = {
        'inputs': [torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)],
        'data_samples': [clip([frame([], [], number=n, size=(96, 128)) for n in range(3)])],
    }
    data = model.data_preprocessor(data)
    with torch.no_grad():
        expected = model.predict(data['inputs'], data['data_samples'])[0]
    assert sum(len(one) for one in ours) > 0
    for one, sample in zip(ours, expected):
        theirs = sample.pred_track_instances
        assert one.instances_id.tolist() == theirs.instances_id.tolist()
        assert torch.equal(to_dense(one.masks, (96, 128)), theirs.masks)


def test_a_new_video_starts_from_zero_and_a_lost_frame_changes_nothing():
    segmenter = VideoSegmenter(ready_model())
    first = [segmenter(picture(1)).instances_id.tolist() for _ in range(2)]
    segmenter.start()
    assert segmenter(picture(1)).instances_id.tolist() == first[0]
    assert segmenter(None) is None
    assert segmenter(picture(1)).instances_id.tolist() == first[1]


def test_segmenters_of_one_model_keep_their_videos_apart():
    images = {seed: [picture(seed), picture(seed + 1), picture(seed)] for seed in (1, 5)}
    alone = {}
    for seed in images:
        segmenter = VideoSegmenter(ready_model())
        alone[seed] = [segmenter(image).instances_id.tolist() for image in images[seed]]
    model = ready_model()
    first = VideoSegmenter(model)
    found = {1: [first(images[1][0])], 5: []}
    second = VideoSegmenter(model)  # in the middle of the other's video
    for image in images[1][1:]:
        found[5].append(second(images[5][len(found[5])]))
        found[1].append(first(image))
    found[5].append(second(images[5][2]))
    assert {s: [one.instances_id.tolist() for one in found[s]] for s in images} == alone


def test_sizes_may_change_within_a_video():
    segmenter = VideoSegmenter(ready_model())
    for size in ((96, 128), (64, 160), (33, 47)):
        found = segmenter(picture(1, size))
        assert all(tuple(mask['size']) == size for mask in found.masks)


@pytest.mark.parametrize(
    'image',
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8),
     'frame.png'],
)  # fmt: skip
def test_what_is_no_picture_is_refused(image):
    with pytest.raises(ValueError, match='a frame is uint8'):
        VideoSegmenter(ready_model())(image)


def test_a_model_of_images_is_refused(folder, tmp_path, capsys):
    with pytest.raises(ValueError, match='TransformBroadcaster'):
        VideoSegmenter(ready_model({**DATA, 'pipeline': [{'type': 'LoadImageFromFile'}]}))
    model = tiny_sipmask.tiny_detector()
    with pytest.raises(ValueError, match='SipMask follows no objects'):
        VideoSegmenter(model)
    config = config_of()
    config.model = tiny_sipmask.tiny_config()
    config.dump(tmp_path / 'image.py')
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'image.pth')
    files = [str(tmp_path / name) for name in ('image.py', 'image.pth')]
    assert main([str(folder), str(tmp_path / 'out.avi'), *files]) == 1
    assert 'SipMask follows no objects: use tools/predict.py' in capsys.readouterr().err


def test_a_folder_is_read_in_the_order_of_its_numbers(folder):
    frames = list(Clip(folder))
    for read, number in zip(frames, (1, 2, 10), strict=True):
        assert np.array_equal(read, picture(number))


def test_unreadable_pictures_stop_or_are_skipped(folder):
    (folder / '3.png').write_bytes(b'no picture')
    with pytest.raises(ValueError, match=r'3\.png.*skip-unreadable'):
        list(Clip(folder))
    assert [read is None for read in Clip(folder, skip_unreadable=True)] == [
        False, False, True, False,
    ]  # fmt: skip


def test_what_is_no_clip_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match='no video file or folder'):
        Clip(tmp_path / 'absent.mp4')
    with pytest.raises(FileNotFoundError, match='holds no pictures'):
        Clip(tmp_path)
    (tmp_path / 'text.mp4').write_text('no video')
    with pytest.raises(ValueError, match='no video that OpenCV can read'):
        Clip(tmp_path / 'text.mp4')


def test_a_video_file_comes_back(tmp_path):
    writer = FrameWriter(tmp_path / 'clip.avi', 5)
    for number in range(4):
        # Another size must not lose the frame.
        writer.write(number, picture(number, (96, 128) if number < 3 else (48, 64)))
    writer.close()
    read = Clip(tmp_path / 'clip.avi')
    frames = list(read)
    assert (read.length, read.rate, len(frames)) == (4, 5.0, 4)
    assert np.abs(frames[1].astype(int) - picture(1)).mean() < 8


def half_video(tmp_path, count: int = 12):
    """A video whose second half is gone."""
    writer = FrameWriter(tmp_path / 'clip.avi', 5)
    for number in range(count):
        writer.write(number, picture(number))
    writer.close()
    content = (tmp_path / 'clip.avi').read_bytes()
    (tmp_path / 'half.avi').write_bytes(content[: len(content) // 2])
    return tmp_path / 'half.avi'


def test_a_video_that_was_cut_off_is_told(tmp_path, recwarn):
    half = half_video(tmp_path)
    assert len(list(Clip(tmp_path / 'clip.avi'))) == 12
    assert len(recwarn) == 0
    found = len(list(Clip(half)))
    assert 0 < found < 8
    assert f'half.avi ends after {found} of the 12 frames' in str(recwarn.pop().message)


def test_headers_may_promise_two_frames_more(tmp_path):
    said: list[str] = []
    half = Clip(half_video(tmp_path), warn=said.append)
    found = len(list(half))
    for missing, times in ((2, 1), (3, 2)):
        half.length = found + missing
        list(half)
        assert len(said) == times


def test_a_folder_without_a_readable_picture_is_refused(tmp_path):
    (tmp_path / '1.png').write_bytes(b'no picture')
    with pytest.raises(ValueError, match='no picture that can be read'):
        list(Clip(tmp_path, skip_unreadable=True))


def test_a_folder_that_holds_something_is_not_written_to(folder):
    with pytest.raises(FileExistsError, match='not empty'):
        FrameWriter(folder)


def test_tracks_are_written_as_youtube_vis_wants_them(tmp_path):
    with TrackFile(tmp_path / 'out.json', video_id=7) as tracks:
        for found in (objects(0, 4), None, objects(), objects(4)):
            tracks.add(found)
    entries = json.loads((tmp_path / 'out.json').read_text())
    assert [(e['video_id'], e['category_id'], round(e['score'], 3)) for e in entries] == [
        (7, 1, 0.9), (7, 2, 0.7),
    ]  # fmt: skip
    seen = [[mask is not None for mask in entry['segmentations']] for entry in entries]
    assert seen == [[True, False, False, False], [True, False, False, True]]
    truth = VideoTruth({
        'videos': [{'id': 7, 'height': 96, 'width': 128, 'length': 4}],
        'categories': [{'id': 1, 'name': 'a'}, {'id': 2, 'name': 'b'}], 'annotations': [],
    })  # fmt: skip
    assert load_tracks(tmp_path / 'out.json', truth).given_areas.tolist() == [1.0, 1.0]
    assert [path.name for path in tmp_path.iterdir()] == ['out.json']


def test_a_failed_run_leaves_no_result(tmp_path):
    with pytest.raises(RuntimeError), TrackFile(tmp_path / 'out.json') as tracks:
        tracks.add(objects(1))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_drawing_changes_the_objects_alone():
    image = np.full((96, 128, 3), 128, np.uint8)
    drawn = draw_tracks(image, objects())
    assert np.array_equal(drawn, image)
    mask = torch.zeros(1, 96, 128, dtype=torch.bool)
    mask[0, 40:60, 50:90] = True
    found = InstanceData(
        instances_id=torch.tensor([3]), labels=torch.tensor([9]), scores=torch.tensor([0.5]),
        masks=mask,
    )  # fmt: skip
    drawn = draw_tracks(image, found, ('a', 'b'))
    assert (drawn[41:59, 51:89] != 128).any(axis=2).all()
    assert (drawn[61:] == 128).all() and (image == 128).all()


@pytest.mark.parametrize('out', ['frames', 'video.avi'])
def test_the_tool_writes_frames_and_tracks(folder, files, tmp_path, out, capsys):
    (folder / '4.png').write_bytes(b'no picture')
    arguments = [str(folder), str(tmp_path / out), *files, '--score', '0']
    assert main(arguments) == 1
    assert '4.png' in capsys.readouterr().err
    target = tmp_path / f'again_{out}'
    arguments[1] = str(target)
    assert main([*arguments, '--skip-unreadable', '--video-id', '7']) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ['frame 2 cannot be read: left out']
    tracks = target.with_suffix('.json') if out.endswith('avi') else target / 'results.json'
    entries = json.loads(tracks.read_text())
    assert entries and all(len(entry['segmentations']) == 4 for entry in entries)
    assert {entry['video_id'] for entry in entries} == {7}
    assert all(entry['segmentations'][2] is None for entry in entries)
    if out == 'frames':
        assert sorted(p.name for p in target.glob('*.jpg')) == [
            '000000.jpg', '000001.jpg', '000003.jpg',
        ]  # fmt: skip
    else:
        assert len(list(Clip(target))) == 3


def test_the_tool_names_what_is_missing(files, tmp_path, capsys):
    assert main([str(tmp_path / 'absent'), str(tmp_path / 'out'), *files]) == 1
    assert 'absent' in capsys.readouterr().err


def test_the_tool_keeps_its_inputs(files, tmp_path, capsys):
    half_video(tmp_path)
    before = (tmp_path / 'clip.avi').read_bytes()
    assert main([str(tmp_path / 'clip.avi'), str(tmp_path / 'clip.avi'), *files]) == 1
    assert 'is also --input' in capsys.readouterr().err
    assert (tmp_path / 'clip.avi').read_bytes() == before
    Config.fromfile(files[0]).dump(tmp_path / 'tracked.json')
    before = (tmp_path / 'tracked.json').read_bytes()
    arguments = [str(tmp_path / 'clip.avi'), str(tmp_path / 'tracked.mp4')]
    assert main([*arguments, str(tmp_path / 'tracked.json'), files[1]]) == 1
    assert 'tracked.json is also --config' in capsys.readouterr().err
    assert (tmp_path / 'tracked.json').read_bytes() == before


def test_the_tool_tells_of_lost_frames(files, tmp_path, capsys):
    assert main([str(half_video(tmp_path)), str(tmp_path / 'out.avi'), *files]) == 0
    assert 'half.avi ends after' in capsys.readouterr().out
    (tmp_path / 'in').mkdir()
    (tmp_path / 'in' / '1.png').write_bytes(b'no picture')
    arguments = [str(tmp_path / 'in'), str(tmp_path / 'none.avi'), *files, '--skip-unreadable']
    assert main(arguments) == 1
    assert 'no picture that can be read' in capsys.readouterr().err
    assert not list(tmp_path.glob('none.*'))


def test_the_tool_names_bad_weights_and_devices(folder, files, tmp_path, capsys):
    (tmp_path / 'damaged.pth').write_bytes(Path(files[1]).read_bytes()[:5000])
    arguments = [str(folder), str(tmp_path / 'out.avi'), files[0]]
    assert main([*arguments, str(tmp_path / 'damaged.pth')]) == 1
    assert 'damaged.pth is no checkpoint' in capsys.readouterr().err
    for device in ('foo', f'cuda:{torch.cuda.device_count()}'):
        assert main([*arguments, files[1], '--device', device]) == 1
        assert device in capsys.readouterr().err


def test_a_model_without_test_settings_follows_objects():
    model = MODELS.build({**tiny_video_config(), 'test_cfg': None})
    model.cfg, model.dataset_meta = config_of(), {'classes': tuple('abc')}
    assert VideoSegmenter(model)(picture()).instances_id.ndim == 1
