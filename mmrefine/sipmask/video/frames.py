"""Frames of a video file or of a folder, and where annotated ones go."""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff')
VIDEO_CODECS = {'.mp4': 'mp4v', '.m4v': 'mp4v', '.mov': 'mp4v', '.avi': 'MJPG', '.mkv': 'MJPG'}
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
            suffixed = (p for p in self.path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
            self.files = sorted(suffixed, key=_natural)
            if not self.files:
                raise FileNotFoundError(
                    f'{self.path} holds no pictures ({", ".join(IMAGE_SUFFIXES)})'
                )
            self.length = len(self.files)
            return
        capture = cv2.VideoCapture(str(self.path))
        if not capture.isOpened():
            raise ValueError(f'{self.path} is no video that OpenCV can read')
        self.length = max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
        self.rate = float(capture.get(cv2.CAP_PROP_FPS) or 0)
        capture.release()

    def __iter__(self) -> Iterator[np.ndarray | None]:
        """Give uint8[H, W, 3], BGR, or None for an unreadable picture that is skipped.

        Raises:
            ValueError: A picture cannot be read and is not to be skipped, or none can be read.
        """
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

    Args:
        path: A file ending in .mp4, .m4v, .mov, .avi or .mkv; anything else is a folder.
        rate: Frames per second of a video file.

    Raises:
        FileExistsError: The folder is not empty.
    """

    def __init__(self, path: str | Path, rate: float = 25.0) -> None:
        self.path = Path(path)
        self.rate = rate if rate > 0 else 25.0
        self.is_video = self.path.suffix.lower() in VIDEO_CODECS
        self._video: cv2.VideoWriter | None = None
        self._size = (0, 0)
        if self.is_video:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        else:
            if self.path.is_dir() and any(self.path.iterdir()):
                raise FileExistsError(f'{self.path} is not empty: name a new folder')
            self.path.mkdir(parents=True, exist_ok=True)

    @property
    def results_path(self) -> Path:
        """Where the tracks go: beside the video file, or into the folder."""
        return self.path.with_suffix('.json') if self.is_video else self.path / 'results.json'

    def write(self, number: int, image: np.ndarray) -> None:
        """Add frame ``number``, uint8[H, W, 3] BGR. Files hold one size: that of the first frame.

        Raises:
            OSError: The frame cannot be written.
        """
        if not self.is_video:
            file = self.path / f'{number:06d}.jpg'
            if not cv2.imwrite(str(file), image):
                raise OSError(f'cannot write {file}')
            return
        if self._video is None:
            self._size = (image.shape[1], image.shape[0])
            codec = cv2.VideoWriter.fourcc(*VIDEO_CODECS[self.path.suffix.lower()])
            self._video = cv2.VideoWriter(str(self.path), codec, self.rate, self._size)
            if not self._video.isOpened():
                raise OSError(f'cannot write {self.path}: this OpenCV lacks the encoder')
        if image.shape[1::-1] != self._size:
            # A writer drops frames of another size without a word.
            image = cv2.resize(image, self._size)
        self._video.write(image)

    def close(self) -> None:
        """Finish the file."""
        if self._video is not None:
            self._video.release()
            self._video = None


def _natural(path: Path) -> tuple:
    """Sort key by which 2.jpg comes before 10.jpg."""
    parts: list[tuple[int, int, str]] = []
    digits = ''
    for letter in path.name + '\0':
        # str.isdigit alone also takes superscripts, which int refuses.
        if letter.isascii() and letter.isdigit():
            digits += letter
            continue
        if digits:
            parts.append((0, int(digits), ''))
            digits = ''
        parts.append((1, 0, letter))
    return tuple(parts)
