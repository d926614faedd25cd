"""A SipMask-VIS model small enough for unit tests, and clips for it."""

from typing import Any

import torch
from mmdet.registry import MODELS
from mmdet.structures import TrackDataSample
from tiny_sipmask import CHANNELS, NORM, sample, tiny_config

from mmrefine.sipmask.video.detector import SipMaskVIS
from mmrefine.sipmask.video.tracker import FrameObjects


def tiny_video_config(tracker: dict | None = None, **options: Any) -> dict:
    """Config of the tiny video model; ``options`` as in ``tiny_config``."""
    return {
        **tiny_config(**options),
        'type': 'SipMaskVIS',
        'data_preprocessor': {
            'type': 'TrackDataPreprocessor', 'mean': [100.0] * 3, 'std': [50.0] * 3,
            'pad_size_divisor': 32,
        },
        'track_head': {
            'type': 'SipMaskTrackHead', 'in_channels': CHANNELS, 'feat_channels': CHANNELS,
            'embed_channels': 16, 'norm_cfg': NORM,
        },
        'tracker': {'type': 'SipMaskTracker', **(tracker or {})},
    }  # fmt: skip


def tiny_video_model(**options: Any) -> SipMaskVIS:
    """The model with fixed random weights, eager to detect."""
    torch.manual_seed(0)
    model = MODELS.build(tiny_video_config(**options))
    with torch.no_grad():
        model.bbox_head.conv_cls.bias.fill_(-0.5)
        model.bbox_head.conv_reg.bias.fill_(1.5)
        model.bbox_head.conv_coeff.weight.mul_(20)
    return model.eval()


def frame(
    boxes: list[list[float]], ids: list[int], video: int = 1, number: int = 0, **kwargs: Any
) -> Any:
    """Annotated frame whose objects have ``ids``."""
    data = sample(boxes, video_id=video, frame_id=number, ori_video_length=8, **kwargs)
    data.gt_instances.instances_ids = torch.tensor(ids, dtype=torch.long)
    return data


def clip(frames: list, key: int | None = None) -> TrackDataSample:
    """A clip of frames; ``key`` makes it a training pair."""
    track = TrackDataSample()
    track.video_data_samples = frames
    if key is not None:
        others = [at for at in range(len(frames)) if at != key]
        track.set_metainfo({'key_frames_inds': [key], 'ref_frames_inds': others})
    return track


def pictures(count: int, size: tuple[int, int] = (128, 160), seed: int = 1) -> torch.Tensor:
    """A random clip Tensor[1, count, 3, H, W]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, count, 3, *size, generator=generator)


def found(
    boxes: list, embeds: list, labels: list | None = None, score: float = 0.9
) -> FrameObjects:
    """FrameObjects of one frame, best first."""
    count = len(boxes)
    return FrameObjects(
        torch.tensor(boxes, dtype=torch.float32).view(count, 4),
        torch.linspace(score, score / 2, max(count, 1))[:count],
        torch.tensor(labels or [0] * count, dtype=torch.long),
        torch.tensor(embeds, dtype=torch.float32).view(count, -1)
        if count
        else torch.zeros(0, len(embeds[0]) if embeds else 2),
    )
