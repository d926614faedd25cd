"""Video instance segmentation without data sets: frames in, objects with ids out.

Frames come from and go to ``video_files``; tracks are written by
``mmrefine.results.track_file.TrackFile``.
"""

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet.registry import TRANSFORMS
from mmdet.structures import TrackDataSample
from mmdet.utils import get_test_pipeline_cfg
from mmengine.structures import InstanceData
from torch import nn

from mmrefine.sipmask.video.detector import SipMaskVIS
from mmrefine.visualization.overlays import draw_instances, instance_colour

from .class_names import class_names
from .picture_pipeline import is_picture

# mmdet's transforms ask for the length of the video, which a stream does not know.
UNKNOWN_LENGTH = 10_000_000


class VideoSegmenter:
    """Finds and names the objects of a video frame by frame, in constant memory.

    >>> segmenter = VideoSegmenter(load_model('sipmask-vis_....py', 'weights.pth'))
    >>> for image in frames:
    ...     objects = segmenter(image)
    >>> segmenter.start()  # the next video

    Several segmenters may share a model, as many as its tracker remembers videos.

    Args:
        model: From ``load_model``; its config says how frames are prepared.

    Attributes:
        classes: Names by label.

    Raises:
        ValueError: It is no SipMask-VIS, or nothing names its classes.
    """

    def __init__(self, model: nn.Module) -> None:
        if not isinstance(model, SipMaskVIS):
            raise ValueError(f'{type(model).__name__} follows no objects: take a SipMaskVIS')
        # the tracker begins anew with every switch of the mode
        self.model = model.eval() if model.training else model
        self.classes = class_names(model)
        steps = frame_pipeline(get_test_pipeline_cfg(model.cfg))
        self.pipeline = Compose([TRANSFORMS.build(step) for step in steps])
        self.pack = TRANSFORMS.build({'type': 'PackTrackInputs'})
        self.start()

    def start(self) -> None:
        """Begin a new video."""
        self._video = uuid4()
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
        mask_cfg = {**(self.model.mask_head.test_cfg or {}), 'mask_format': 'rle'}
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
