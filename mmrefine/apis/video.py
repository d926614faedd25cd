"""Video instance segmentation without data sets: frames in, objects with ids out.

Reads video files and folders of pictures, tracks objects frame by frame in constant memory, and
writes annotated frames. Tracks are written by ``mmrefine.results.track_file.TrackFile``.
"""

import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet.registry import MODELS, TRANSFORMS
from mmdet.structures import TrackDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import load_checkpoint
from mmengine.structures import InstanceData

from mmrefine.checkpoint import read_checkpoint
from mmrefine.sipmask.video.detector import SipMaskVIS
from mmrefine.visualization.overlays import draw_instances, instance_colour

from .load_model import checked_device, read_config, require_weights

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff')
VIDEO_CODECS = {'.mp4': 'mp4v', '.m4v': 'mp4v', '.mov': 'mp4v', '.avi': 'MJPG', '.mkv': 'MJPG'}
# Headers promise a frame or two that are not there, where they round duration times rate.
MISSING_FRAMES = 2
# mmdet's transforms ask for the length of the video, which a stream does not know.
UNKNOWN_LENGTH = 10_000_000


class VideoSegmenter:
    """Finds and names the objects of a video frame by frame, in constant memory.

    >>> segmenter = VideoSegmenter.from_files('sipmask-vis_....py', 'weights.pth')
    >>> for image in frames:
    ...     objects = segmenter(image)
    >>> segmenter.start()  # the next video

    Args:
        model: The video model.
        pipeline: ``test_dataloader.dataset.pipeline`` of its config.
        classes: Names by label.

    Raises:
        ValueError: The pipeline has no TransformBroadcaster.
    """

    def __init__(
        self, model: SipMaskVIS, pipeline: list[dict], classes: Iterable[str] | None = None
    ) -> None:
        self.model = model.eval()
        self.classes = None if classes is None else tuple(classes)
        self.pipeline = Compose([TRANSFORMS.build(step) for step in frame_pipeline(pipeline)])
        self.pack = TRANSFORMS.build({'type': 'PackTrackInputs'})
        self._video = 0
        self.start()

    @classmethod
    def from_files(
        cls, config: str | Path | Config, checkpoint: str | Path | None, device: str = 'cpu'
    ) -> 'VideoSegmenter':
        """Build the model of a config and load its weights.

        Args:
            config: Config file or parsed config of a ``SipMaskVIS``.
            checkpoint: Weights, ours or the authors'; None keeps random ones.
            device: Where it runs.

        Raises:
            OSError: A file is missing.
            ValueError: The config describes another model, the weights are of one or cannot be
                read, or there is no such device.
        """
        torch_device = checked_device(device)
        state = None if checkpoint is None else read_checkpoint(checkpoint)
        if not isinstance(config, Config):
            config = read_config(config)
        init_default_scope(config.get('default_scope', 'mmdet'))
        model_config = config.model.copy()
        if checkpoint is not None:
            model_config.backbone.init_cfg = None
        model = MODELS.build(model_config)
        if not isinstance(model, SipMaskVIS):
            raise ValueError(f'the config describes a {type(model).__name__}, not a SipMaskVIS')
        dataset = config.test_dataloader.dataset
        classes = dataset.get('metainfo', {}).get('classes')
        if state is None:
            model.init_weights()
        else:
            loaded = load_checkpoint(model, str(checkpoint), map_location='cpu')
            require_weights(model, state, str(checkpoint))
            classes = loaded.get('meta', {}).get('dataset_meta', {}).get('classes', classes)
        return cls(model.to(torch_device), dataset.pipeline, classes)

    def start(self) -> None:
        """Begin a new video."""
        self._video += 1
        self._frame = 0

    @torch.no_grad()
    def __call__(self, image: np.ndarray | None) -> InstanceData | None:
        """Take the next frame.

        Args:
            image: uint8[H, W, 3], BGR; sizes may change within a video. None stands for a frame
                that is lost: it counts, and nothing else happens.

        Returns:
            ``bboxes``, ``scores``, ``labels``, ``instances_id`` and RLE ``masks``, in pixels of
            the image, on the CPU; None for a lost frame.

        Raises:
            ValueError: The array is no picture.
        """
        number, self._frame = self._frame, self._frame + 1
        if image is None:
            return None
        sample, inputs = self._prepare(image, number)
        batch = {'inputs': [inputs], 'data_samples': [sample]}
        batch = self.model.data_preprocessor(batch, training=False)
        frame = batch['data_samples'][0][0]
        mask_cfg = {**self.model.mask_head.test_cfg, 'mask_format': 'rle'}
        # (1, T = 1, 3, H, W) -> (1, 3, H, W)
        self.model.predict_frames(batch['inputs'][:, 0], [frame], mask_cfg=mask_cfg)
        return frame.pred_track_instances.cpu()

    def _prepare(self, image: np.ndarray, number: int) -> tuple[TrackDataSample, torch.Tensor]:
        if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3:
            got = getattr(image, 'shape', type(image).__name__)
            raise ValueError(f'a frame is uint8[H, W, 3], BGR; got {got}')
        if min(image.shape) == 0 or image.dtype != np.uint8:
            raise ValueError(
                f'a frame is uint8[H, W, 3] with pixels; got {image.dtype}{image.shape}'
            )
        results: dict[str, Any] = self.pipeline({'img': image})
        results |= {
            'img_id': number,
            'frame_id': number,
            'video_id': self._video,
            'video_length': UNKNOWN_LENGTH,
            'ori_video_length': UNKNOWN_LENGTH,
        }
        packed = self.pack({key: [value] for key, value in results.items()})
        return packed['data_samples'], packed['inputs']


def frame_pipeline(pipeline: list[dict]) -> list[dict]:
    """Keep the steps of a test pipeline that work on a single picture in memory.

    Raises:
        ValueError: It is not made for videos.
    """
    for step in pipeline:
        if step['type'] == 'TransformBroadcaster':
            steps = [s for s in step['transforms'] if not s['type'].startswith('Load')]
            return [{'type': 'mmdet.LoadImageFromNDArray'}, *steps]
    raise ValueError(
        'the test pipeline has no TransformBroadcaster: take the config of a video model'
    )


def track_clip(
    segmenter: VideoSegmenter,
    frames: Iterable[np.ndarray | None],
    on_frame: Callable[[int, np.ndarray | None, InstanceData | None], None],
) -> int:
    """Run a whole video through; nothing is kept between frames but the tracker's memory.

    Args:
        segmenter: A new video begins with the first frame.
        frames: uint8[H, W, 3], BGR, or None where a frame is lost.
        on_frame: Called with number, picture and objects of every frame.

    Returns:
        Number of frames.
    """
    segmenter.start()
    count = 0
    for count, image in enumerate(frames, start=1):
        on_frame(count - 1, image, segmenter(image))
    return count


def draw_tracks(
    image: np.ndarray, objects: InstanceData, classes: Sequence[str] | None = None
) -> np.ndarray:
    """Draw the objects of a frame, each id in its own colour, the best object on top.

    Args:
        image: uint8[H, W, 3], BGR; not changed.
        objects: ``instances_id``, ``labels``, ``scores``, ``masks`` (dense or RLE of H x W), best
            first.
        classes: Names by label; ids alone without them.

    Returns:
        uint8[H, W, 3], BGR.
    """
    objects = objects[torch.arange(len(objects)).flip(0)]
    ids, labels = objects.instances_id.tolist(), objects.labels.tolist()
    texts = []
    for track, label, score in zip(ids, labels, objects.scores.tolist()):
        name = f' {classes[label]}' if classes is not None and label < len(classes) else ''
        texts.append(f'{track}{name} {score:.2f}')
    masks = objects.masks.cpu().numpy() if torch.is_tensor(objects.masks) else objects.masks
    return draw_instances(image, masks, texts, [instance_colour(track) for track in ids])


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


def _natural(path: Path) -> list[tuple[bool, int, str]]:
    """Sort key by which 2.jpg comes before 10.jpg."""
    parts = re.split(r'([0-9]+)', path.name)
    return [(not at % 2, int(part) if at % 2 else 0, part) for at, part in enumerate(parts) if part]
