"""One memory per video, whatever order the videos come in.

Origin:   JialeCao001/SipMask, ``SipMask-VIS``; written anew.
Changes:  the original keeps one memory and empties it at the first frame of a video, unless that
          frame has no detections; here a memory belongs to its video.
"""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import torch
from mmdet.registry import MODELS
from torch import Tensor

from .memory import DROPPED, Detections, MatchRule, TrackMemory, associate


@dataclass
class _Video:
    memory: TrackMemory
    first: int
    last: int


@MODELS.register_module()
class SipMaskTracker:
    """Gives every detection the id of its object, frame after frame.

    State lives here and not in the network: one ``TrackMemory`` per video, for the videos used
    last.

    Args:
        match_weights: Factors of the matching score: ``det_score``, ``iou``, ``det_label`` and
            ``embed`` (0 matches by place and class alone).
        max_objects: Remembered objects per video; those unseen for longest are forgotten. None
            never forgets. Parity: as the original.
        min_score: Detections below it are dropped before they take or become objects. 0, as
            published, lets weak doubles of an object take its id.
        max_videos: Videos remembered at a time.
        iou_offset: Parity: 1 computes overlaps with legacy pixel counting.
        share_ids: Parity: several detections of a frame may take one id; the last of them is
            output.
        update_labels: Remember the class an object was last seen as. Parity: the original keeps
            the first.
        keep_memory_without_detections: Parity: a video whose first frame has no detections goes on
            with the memory of the video before it.

    Raises:
        ValueError: An unknown weight, a limit below 1, or a score outside [0, 1].
    """

    WEIGHTS = ('det_score', 'iou', 'det_label', 'embed')

    def __init__(
        self,
        match_weights: dict[str, float] | None = None,
        max_objects: int | None = 256,
        min_score: float = 0.0,
        max_videos: int = 8,
        iou_offset: float = 0.0,
        share_ids: bool = False,
        update_labels: bool = True,
        keep_memory_without_detections: bool = False,
    ) -> None:
        given: dict[str, Any] = dict(match_weights or {})
        unknown = sorted(set(given) - set(self.WEIGHTS))
        if unknown:
            raise ValueError(f'unknown match_weights {unknown}: use some of {self.WEIGHTS}')
        if max_videos < 1 or (max_objects is not None and max_objects < 1):
            raise ValueError(
                f'max_objects and max_videos must be at least 1, got {max_objects} and {max_videos}'
            )
        if not 0 <= min_score <= 1:
            raise ValueError(f'min_score must lie in [0, 1], got {min_score}')
        defaults = MatchRule()
        self.rule = MatchRule(
            given.get('det_score', defaults.score_weight),
            given.get('iou', defaults.iou_weight),
            given.get('det_label', defaults.label_weight),
            given.get('embed', defaults.embed_weight),
            iou_offset,
            share_ids,
            update_labels,
            max_objects,
        )
        self.min_score = min_score
        self.max_videos = max_videos
        self.keep_memory_without_detections = keep_memory_without_detections
        self.reset()

    def reset(self) -> None:
        """Forget all videos."""
        self._videos: OrderedDict[Hashable, _Video] = OrderedDict()

    def memory(self, video: Hashable) -> TrackMemory | None:
        """What is remembered of a video, None if nothing."""
        return self._videos[video].memory if video in self._videos else None

    def track(
        self, video: Hashable, frame: int, found: Detections, size: tuple[int, int]
    ) -> Tensor:
        """Name the objects of the next frame of a video.

        Args:
            video: Identity of the video.
            frame: Number of the frame. Gaps are fine; the number that the video began with begins
                it anew.
            found: Detections, best first.
            size: (height, width) of the original frame; it may change within a video.

        Returns:
            Ids LongTensor[n], -1 for detections to drop.

        Raises:
            ValueError: The frame lies before one that was tracked already.
        """
        state = self._videos.pop(video, None)
        if state is None or frame == state.first:
            state = _Video(self._first_memory(found, size), frame, frame)
        elif frame <= state.last:
            self._videos[video] = state
            raise ValueError(
                f'frame {frame} of video {video!r} came after frame {state.last}: objects are '
                'tracked forwards, give the frames of a video in order'
            )
        sure = (found.scores >= self.min_score).nonzero()[:, 0]
        seen = Detections(*(values[sure] for values in found))
        named, state.memory = associate(state.memory, seen, self.rule, size)
        ids = torch.full_like(found.labels, DROPPED).index_copy(0, sure, named)
        state.last = frame
        self._videos[video] = state
        while len(self._videos) > self.max_videos:
            self._videos.popitem(last=False)
        return ids

    def _first_memory(self, found: Detections, size: tuple[int, int]) -> TrackMemory:
        if self.keep_memory_without_detections and len(found.labels) == 0 and self._videos:
            return next(reversed(self._videos.values())).memory
        return TrackMemory.empty(found, size)
