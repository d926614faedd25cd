"""Video instance segmentation without data sets: frames in, objects with ids out.

Frames come from and go to ``video_files``; tracks are written by
``mmrefine.results.track_file.TrackFile``.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet.registry import TRANSFORMS
from mmdet.structures import TrackDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData

from mmrefine.sipmask.video.detector import SipMaskVIS
from mmrefine.visualization.overlays import draw_instances, instance_colour

from .class_names import class_names
from .load_model import load_model
from .picture_pipeline import is_picture

# mmdet's transforms ask for the length of the video, which a stream does not know.
UNKNOWN_LENGTH = 10_000_000


class VideoSegmenter:
    """Finds and names the objects of a video frame by frame, in constant memory.

    >>> segmenter = VideoSegmenter.from_files('sipmask-vis_....py', 'weights.pth')
    >>> for image in frames:
    ...     objects = segmenter(image)
    >>> segmenter.start()  # the next video

    Args:
        pipeline: ``test_dataloader.dataset.pipeline`` of its config.
        classes: Names by label.
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
        cls, config: str | Path | Config, checkpoint: str | Path, device: str = 'cpu'
    ) -> 'VideoSegmenter':
        """Build the model of a config (file or parsed) and load its weights, ours or the authors'.

        Raises:
            OSError: A file is missing.
            ValueError: The config describes another model, the weights are of one or cannot be
                read, or there is no such device.
        """
        model = load_model(config, checkpoint, device)
        if not isinstance(model, SipMaskVIS):
            raise ValueError(f'the config describes a {type(model).__name__}, not a SipMaskVIS')
        pipeline = model.cfg.test_dataloader.dataset.pipeline
        return cls(model, pipeline, class_names(model))

    def start(self) -> None:
        """Begin a new video."""
        self._video += 1
        self._frame = 0

    @torch.no_grad()
    def __call__(self, image: np.ndarray | None) -> InstanceData | None:
        """Take the next frame, uint8[H, W, 3], BGR; sizes may change within a video.

        None stands for a frame that is lost: it counts, and nothing else happens.

        Returns:
            ``bboxes``, ``scores``, ``labels``, ``instances_id`` and RLE ``masks``, in pixels of the
            image, on the CPU; None for a lost frame.
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
        if not is_picture(image):
            got = f'{getattr(image, "dtype", type(image).__name__)}{getattr(image, "shape", "")}'
            raise ValueError(f'a frame is uint8[H, W, 3], BGR, with pixels; got {got}')
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
    """Keep the steps of a test pipeline that work on a single picture in memory."""
    for step in pipeline:
        if 'TransformBroadcaster' in str(step['type']):  # a name, with or without scope, or a class
            steps = [s for s in step['transforms'] if 'Load' not in str(s['type'])]
            return [{'type': 'mmdet.LoadImageFromNDArray'}, *steps]
    raise ValueError(
        'the test pipeline has no TransformBroadcaster: take the config of a video model'
    )


def draw_tracks(
    image: np.ndarray, objects: InstanceData, classes: Sequence[str] | None = None
) -> np.ndarray:
    """Draw the objects of a frame uint8[H, W, 3], BGR, on a copy: each id in its own colour, the
    best on top.

    Objects have ``instances_id``, ``labels``, ``scores``, ``masks`` (dense or RLE of H x W), best
    first; without names of the labels, ids alone are written.
    """
    objects = objects[torch.arange(len(objects)).flip(0)]
    ids, labels = objects.instances_id.tolist(), objects.labels.tolist()
    texts = []
    for track, label, score in zip(ids, labels, objects.scores.tolist()):
        name = f' {classes[label]}' if classes is not None and label < len(classes) else ''
        texts.append(f'{track}{name} {score:.2f}')
    masks = objects.masks.cpu().numpy() if torch.is_tensor(objects.masks) else objects.masks
    return draw_instances(image, masks, texts, [instance_colour(track) for track in ids])
