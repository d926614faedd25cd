"""Written videos: the codec in the file, sizes, rates, and what is refused."""

import math
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from torch import nn

from mmrefine.apis.predict_video import predict_video
from mmrefine.apis.video_files import VIDEO_SUFFIXES, Clip, FrameWriter


def gradient(number: int, height: int = 47, width: int = 65) -> np.ndarray:
    """Smooth, so that lossy codecs keep it: blue grows to the right, green downwards."""
    x, y = np.meshgrid(np.linspace(0, 200, width), np.linspace(0, 200, height))
    return np.dstack([x, y, np.full_like(x, 40 * number)]).astype(np.uint8)


def write(path: Path, sizes: list[tuple[int, int]]) -> FrameWriter:
    writer = FrameWriter(path, 12.5)
    for number, size in enumerate(sizes):
        writer.write(number, gradient(number, *size))
    writer.close()
    return writer


def codec(path: Path) -> tuple[str, str]:
    """Codec and pixel format that OpenCV's decoder finds in a file."""
    capture = cv2.VideoCapture(str(path))
    found = (capture.get(cv2.CAP_PROP_FOURCC), capture.get(cv2.CAP_PROP_CODEC_PIXEL_FORMAT))
    name, pixels = (int(value).to_bytes(4, 'little', signed=True).decode() for value in found)
    return name, pixels


@pytest.fixture
def without_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'imageio_ffmpeg', None)


def require_frames(path: Path) -> None:
    """Three frames of even size, the first 65 x 47 and what was written beyond it."""
    clip = Clip(path)
    frames = list(clip)
    assert (len(frames), clip.rate) == (3, 12.5)
    for number, frame in enumerate(frames):
        assert frame.shape == (48, 66, 3)
        assert np.abs(frame[:47, :65].astype(int) - gradient(number)).mean() < 8
        assert np.abs(frame[47, :65].astype(int) - gradient(number)[46]).mean() < 12


SIZES = [(47, 65), (47, 65), (94, 130)]


@pytest.mark.parametrize('suffix', ['.mp4', '.m4v', '.mov', '.mkv'])
def test_files_hold_h264_that_browsers_play(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip('imageio_ffmpeg')
    writer = write(tmp_path / f'out{suffix}', SIZES)
    assert codec(writer.path) == ('h264', 'I420') and not writer.note
    require_frames(writer.path)
    if suffix == '.mp4':  # the index in front, so that playing begins before the end is loaded
        content = writer.path.read_bytes()
        assert content.index(b'moov') < content.index(b'mdat')


@pytest.mark.parametrize('suffix', ['.mp4', '.webm', '.mkv'])
def test_without_ffmpeg_files_hold_vp9(tmp_path: Path, suffix: str, without_ffmpeg: None) -> None:
    writer = write(tmp_path / f'out{suffix}', SIZES)
    assert codec(writer.path)[0] == 'VP90'
    assert ('pip install imageio-ffmpeg' in writer.note) == (suffix != '.webm')
    require_frames(writer.path)


def test_a_webm_is_one_with_ffmpeg_too(tmp_path: Path) -> None:
    writer = write(tmp_path / 'out.WEBM', SIZES)
    assert writer.path.is_file() and codec(writer.path)[0] == 'VP90'
    assert writer.path.read_bytes()[:4] == b'\x1aE\xdf\xa3'  # EBML, which Matroska and WebM share
    assert b'webm' in writer.path.read_bytes()[:64]


@pytest.mark.parametrize('suffix', ['.m4v', '.mov'])
def test_containers_that_need_h264_say_so(
    tmp_path: Path, suffix: str, without_ffmpeg: None
) -> None:
    with pytest.raises(ValueError, match=rf'{suffix} takes H.264 .*imageio-ffmpeg.*\.mp4'):
        FrameWriter(tmp_path / f'out{suffix}')
    assert not list(tmp_path.iterdir())


def test_other_suffixes_are_no_folders(tmp_path: Path) -> None:
    for name in ('out.wmv', 'out.gif', 'run.v2'):
        with pytest.raises(ValueError, match='written as .mp4, .*without a suffix, or with /'):
            FrameWriter(tmp_path / name)
    assert not list(tmp_path.iterdir())
    assert not FrameWriter(f'{tmp_path}/run.v2/').is_video
    assert not FrameWriter(tmp_path / 'frames').is_video
    (tmp_path / 'there.mp4').mkdir()
    assert not FrameWriter(tmp_path / 'there.mp4').is_video
    assert sorted(p.name for p in tmp_path.iterdir()) == ['frames', 'run.v2', 'there.mp4']


def test_every_suffix_is_written_or_refused_with_a_reason(tmp_path: Path) -> None:
    for suffix in VIDEO_SUFFIXES:
        path = write(tmp_path / f'out{suffix}', [(32, 32)] * 2).path
        assert len(list(Clip(path))) == 2


def test_frames_that_macos_doubles_are_passed_over(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / '0001.jpg'), gradient(0))
    (tmp_path / '._0001.jpg').write_bytes(b'Mac OS X')
    assert len(list(Clip(tmp_path))) == 1


@pytest.mark.parametrize('rate', [0.0, -5.0, math.nan])
def test_rates_that_are_none_are_refused(tmp_path: Path, rate: float) -> None:
    with pytest.raises(ValueError, match='more than 0 frames per second, got (0|-5|nan)$'):
        predict_video(nn.Module(), tmp_path / 'in.mp4', tmp_path / 'out.mp4', rate=rate)
