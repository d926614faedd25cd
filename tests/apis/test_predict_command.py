"""``predict`` as a command, and its videos."""

from collections.abc import Callable
from pathlib import Path

import cv2
import pytest
import torch
from locations import ROOT
from mmdet.registry import MODELS
from mmengine.config import Config
from noise_pictures import clip, photo

from mmrefine.apis.predict_video import predict_video

CONFIG = ROOT / 'configs' / 'refinemask' / 'refinemask_tiny_fruit-nuts.py'
SCORE = 0.25  # of random weights, a handful of objects


def test_videos_are_drawn_frame_by_frame(model: torch.nn.Module, tmp_path: Path) -> None:
    frames = [cv2.imread(str(photo(tmp_path / f'{i}.png', seed=i))) for i in range(4)]
    clip = cv2.VideoWriter(str(tmp_path / 'in.avi'), cv2.VideoWriter.fourcc(*'MJPG'), 10, (128, 96))
    for frame in frames:
        clip.write(frame)
    clip.release()
    with pytest.raises(ValueError, match='in.avi is also --video'):
        predict_video(model, tmp_path / 'in.avi', tmp_path / 'in.avi', SCORE)
    run = predict_video(model, tmp_path / 'in.avi', tmp_path / 'out.mp4', SCORE)
    assert run.frames == 4 and run.tracks is None and sum(run.objects.values()) > 0
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
        ({'--score': 30}, 'score must lie between 0 and 1, got 30'),
        ({'--batch': 0}, 'batch_size must be at least 1, got 0'),
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


def test_weights_of_a_diverged_training_end_in_one_sentence(
    checkpoint: Path, tmp_path: Path, command: Callable
) -> None:
    saved = torch.load(checkpoint)
    state = saved.get('state_dict', saved)
    for name, value in state.items():
        if 'bbox_head' in name:
            value.fill_(float('nan'))
    torch.save(saved, tmp_path / 'nan.pth')
    options = ('--config', CONFIG, '--checkpoint', tmp_path / 'nan.pth', '--out', tmp_path / 'out')
    done = command('predict', photo(tmp_path / 'a.png'), *options)
    assert done.status == 1 and 'Traceback' not in done.err
    assert 'are not finite: look for NaN' in done.err.splitlines()[-1]


def test_a_threshold_that_removes_everything_says_so(
    checkpoint: Path, tmp_path: Path, command: Callable
) -> None:
    path = photo(tmp_path / 'a.png')
    options = ('--config', CONFIG, '--checkpoint', checkpoint, '--out', tmp_path / 'out')
    done = command('predict', path, *options, '--score', 0.99)
    assert done.status == 0 and 'try a lower --score' in done.out


def test_videos_of_one_name_are_refused(
    checkpoint: Path, tmp_path: Path, command: Callable
) -> None:
    videos = [clip(tmp_path / folder / 'v.avi') for folder in 'ab']
    options = ('--config', CONFIG, '--checkpoint', checkpoint, '--out', tmp_path / 'out')
    done = command('predict', *videos, *options)
    assert done.status == 1 and '2 videos are called v' in done.err


def test_a_video_that_was_cut_off_is_told(
    checkpoint: Path, tmp_path: Path, command: Callable
) -> None:
    content = clip(tmp_path / 'v.avi', frames=12).read_bytes()
    (tmp_path / 'half.avi').write_bytes(content[: len(content) // 2])
    options = ('--config', CONFIG, '--checkpoint', checkpoint, '--out', tmp_path / 'out')
    done = command('predict', tmp_path / 'half.avi', *options)
    assert done.status == 0 and 'half.avi ends after' in done.out and 'of the 12' in done.out


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
    for mistake, message in (
        (('--classes', 'cat'), "no class 'cat'"),
        (('--score', 30), 'score must lie between 0 and 1, got 30'),
    ):
        done = command('predict', video, *options, *mistake)
        assert done.status == 1 and message in done.err
