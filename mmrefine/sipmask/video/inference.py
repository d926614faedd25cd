"""SipMask-VIS on pictures as they come, without data sets: one frame in, its objects out."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet.registry import MODELS, TRANSFORMS
from mmdet.structures import TrackDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import load_checkpoint
from mmengine.structures import InstanceData

from mmrefine.apis.load_model import checked_device, read_weights, require_weights

from .detector import SipMaskVIS

# A folder of frames may hold more than 10 million of them only in theory.
UNKNOWN_LENGTH = 10_000_000


class VideoSegmenter:
    """Names the objects of a video frame by frame, in constant memory.

    >>> segmenter = VideoSegmenter.from_files('sipmask-vis_....py', 'weights.pth')
    >>> for image in frames:
    ...     objects = segmenter(image)
    >>> segmenter.start()  # the next video

    Args:
        model: The video model; its masks are run-length encoded from here on.
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
        place = checked_device(device)
        state = None if checkpoint is None else read_weights(checkpoint)
        if not isinstance(config, Config):
            config = Config.fromfile(config)
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
        return cls(model.to(place), dataset.pipeline, classes)

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
        test_cfg = self.model.mask_head.test_cfg
        before = test_cfg.get('mask_format', 'dense')
        test_cfg['mask_format'] = 'rle'
        try:
            self.model.predict_frames(
                batch['inputs'][:, 0], [batch['data_samples'][0][0]], rescale=True
            )
        finally:
            test_cfg['mask_format'] = before
        return batch['data_samples'][0][0].pred_track_instances.cpu()

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
    """The steps of a test pipeline that work on a single picture in memory.

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
