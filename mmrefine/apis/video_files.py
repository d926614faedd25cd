"""Video files and folders of frames: read one by one, and written so that browsers play them."""

import re
import warnings
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mmrefine.datasets.sources.records import PICTURES

H264 = ('.mp4', '.m4v', '.mov', '.mkv')
OPENCV_CODECS = {'.mp4': 'vp09', '.mkv': 'VP90', '.webm': 'VP90', '.avi': 'MJPG'}
VIDEO_SUFFIXES = tuple(dict.fromkeys([*H264, *OPENCV_CODECS]))
QUALITY = 7  # of 10; the result of 5 smears the outlines
# Headers promise a frame or two that are not there, where they round duration times rate.
MISSING_FRAMES = 2


class Clip:
    """The frames of a video file, or of a folder in the order of the names, one at a time.

    Args:
        path: A file that OpenCV reads, or a folder of pictures.
        skip_unreadable: Give None for a picture that cannot be read instead of stopping.
        warn: Called with a sentence when a video ends more than a frame or two before the length
            in its header. That is no error: for clips of varying rate, or made while streaming,
            the header may hold a mere estimate.

    Attributes:
        length: Number of frames; of a video file what its header says, 0 if nothing.
        rate: Frames per second; 0 for a folder.

    Raises:
        FileNotFoundError: There is no such path, or the folder holds no pictures.
        ValueError: The file is no video.
    """

    def __init__(
        self,
        path: str | Path,
        skip_unreadable: bool = False,
        warn: Callable[[str], object] = warnings.warn,
    ) -> None:
        self.path = Path(path)
        self.skip_unreadable = skip_unreadable
        self.warn = warn
        self.files: list[Path] = []
        self.rate = 0.0
        if not self.path.exists():
            raise FileNotFoundError(f'no video file or folder of frames at {self.path}')
        if self.path.is_dir():
            suffixed = (p for p in self.path.iterdir() if p.suffix.lower() in PICTURES)
            # macOS puts ._NAME beside NAME
            self.files = sorted((p for p in suffixed if p.name[:2] != '._'), key=_natural)
            if not self.files:
                raise FileNotFoundError(f'{self.path} holds no pictures ({", ".join(PICTURES)})')
            self.length = len(self.files)
            return
        capture = cv2.VideoCapture(str(self.path))
        if not capture.isOpened():
            raise ValueError(f'{self.path} is no video that OpenCV can read')
        self.length = max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
        self.rate = float(capture.get(cv2.CAP_PROP_FPS) or 0)
        capture.release()

    def __iter__(self) -> Iterator[np.ndarray | None]:
        """Give uint8[H, W, 3], BGR, or None for an unreadable picture that is skipped."""
        return self._pictures() if self.files else self._video()

    def _pictures(self) -> Iterator[np.ndarray | None]:
        found = 0
        for file in self.files:
            image = cv2.imread(str(file), cv2.IMREAD_COLOR)
            if image is None and not self.skip_unreadable:
                raise ValueError(
                    f'cannot read the frame {file}: mend or remove it, or skip such frames '
                    '(--skip-unreadable)'
                )
            found += image is not None
            yield image
        if not found:
            raise ValueError(f'{self.path} has no picture that can be read')

    def _video(self) -> Iterator[np.ndarray]:
        capture = cv2.VideoCapture(str(self.path))
        found = 0
        try:
            while True:
                good, image = capture.read()
                if not good:
                    break
                found += 1
                yield image
        finally:
            capture.release()
        if not found:
            raise ValueError(f'{self.path} has no frame that can be decoded')
        if self.length - found > MISSING_FRAMES:
            self.warn(
                f'{self.path} ends after {found} of the {self.length} frames that its header '
                'promises: was it cut off?'
            )


class FrameWriter:
    """Writes annotated frames to a video file or, numbered, into a folder.

    Files hold H.264 where imageio-ffmpeg is installed, which every browser plays; else, and in
    .webm, VP9, which current browsers play. An .avi holds Motion JPEG.

    Args:
        path: A file ending in one of ``VIDEO_SUFFIXES``, or a folder: without a suffix, or there.
        rate: Frames per second of a video file.

    Attributes:
        note: A sentence on a codec that is not the best choice; else empty.

    Raises:
        FileExistsError: The folder is not empty.
        ValueError: The suffix is of no video that can be written.
    """

    def __init__(self, path: str | Path, rate: float = 25.0) -> None:
        self.path = Path(path)
        self.rate = rate if rate > 0 else 25.0
        self.note = ''
        self._send: Callable[[Any], object] | None = None
        self._end: Callable[[], object] = lambda: None
        self._size = (0, 0)
        suffix = self.path.suffix.lower()
        self.is_video = suffix in VIDEO_SUFFIXES and not self.path.is_dir()
        if not self.is_video:
            if suffix and not self.path.is_dir() and not str(path).endswith(('/', '\\')):
                raise ValueError(
                    f'{path}: videos are written as {", ".join(VIDEO_SUFFIXES)}; a folder of '
                    'frames is named without a suffix, or with / at the end'
                )
            if self.path.is_dir() and any(self.path.iterdir()):
                raise FileExistsError(f'{self.path} is not empty: name a new folder')
            self.path.mkdir(parents=True, exist_ok=True)
            return
        self._h264 = suffix in H264 and _has_ffmpeg()
        if not self._h264 and suffix not in OPENCV_CODECS:
            raise ValueError(
                f'{path}: {suffix} takes H.264 (`pip install imageio-ffmpeg`); without it name '
                f'{", ".join(OPENCV_CODECS)}'
            )
        if not self._h264 and suffix in H264:
            self.note = (
                f'{self.path} holds VP9, which current browsers play; for H.264, which every '
                'player knows: pip install imageio-ffmpeg'
            )
        self.path.parent.mkdir(parents=True, exist_ok=True)

    @property
    def results_path(self) -> Path:
        """Where the tracks go: beside the video file, or into the folder."""
        return self.path.with_suffix('.json') if self.is_video else self.path / 'results.json'

    def write(self, number: int, image: np.ndarray) -> None:
        """Add frame ``number``, uint8[H, W, 3] BGR.

        Files hold one size, that of the first frame; odd sides get one pixel more, as both codecs
        keep colours for two by two pixels.
        """
        if not self.is_video:
            file = self.path / f'{number:06d}.jpg'
            if not cv2.imwrite(str(file), image):
                raise OSError(f'cannot write {file}')
            return
        if self._send is None:
            self._size = (image.shape[1], image.shape[0])
            even = (self._size[0] + self._size[0] % 2, self._size[1] + self._size[1] % 2)
            self._send, self._end = self._encoder(even)
        if image.shape[1::-1] != self._size:
            # A writer drops frames of another size without a word.
            image = cv2.resize(image, self._size)
        below, right = self._size[1] % 2, self._size[0] % 2
        if below or right:
            image = cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REPLICATE)
        self._send(np.ascontiguousarray(image))

    def _encoder(self, size: tuple[int, int]) -> tuple[Callable, Callable]:
        """Take and finish: an encoder for frames of ``size``, width and height."""
        if self._h264:
            stream = _h264_stream(self.path, size, self.rate)
            return stream.send, stream.close
        codec = cv2.VideoWriter.fourcc(*OPENCV_CODECS[self.path.suffix.lower()])
        video = cv2.VideoWriter(str(self.path), codec, self.rate, size)
        if not video.isOpened():
            raise OSError(f'cannot write {self.path}: this OpenCV lacks the encoder')
        return video.write, video.release

    def close(self) -> None:
        """Finish the file."""
        self._send = None
        self._end()


def _has_ffmpeg() -> bool:
    """Whether imageio-ffmpeg is installed and finds its program."""
    try:
        import imageio_ffmpeg

        return bool(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        return False


def _h264_stream(path: Path, size: tuple[int, int], rate: float) -> Generator:
    """An encoder that takes frames by ``send``, in yuv420p with the index in front."""
    import imageio_ffmpeg

    front = [] if path.suffix.lower() == '.mkv' else ['-movflags', '+faststart']
    stream = imageio_ffmpeg.write_frames(
        str(path),
        size,
        pix_fmt_in='bgr24',
        fps=rate,
        quality=QUALITY,
        macro_block_size=2,
        ffmpeg_log_level='error',
        output_params=front,
    )
    stream.send(None)
    return stream


def _natural(path: Path) -> list[tuple[bool, int, str]]:
    """Sort key by which 2.jpg comes before 10.jpg."""
    parts = re.split(r'([0-9]+)', path.name)
    return [(not at % 2, int(part) if at % 2 else 0, part) for at, part in enumerate(parts) if part]
