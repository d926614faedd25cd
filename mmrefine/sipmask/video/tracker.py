"""Which detection is which object of the video: the published score, and unique ids.

Paper:    SipMask, https://arxiv.org/abs/2007.14772, section 3.4; the score is that of MaskTrack
          R-CNN, https://arxiv.org/abs/1905.04804.
Origin:   JialeCao001/SipMask, ``SipMask-VIS``; written anew.
Changes:  the original keeps one memory and empties it at the first frame of a video, unless that
          frame has no detections; here a memory belongs to its video.

Shapes:   n detections of one frame (best score first), M remembered objects, E channels.
"""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from torch import Tensor

from mmrefine.fcos import pairwise_iou

from .track_head import match_logits

DROPPED = -1


class FrameObjects(NamedTuple):
    """What the tracker knows of the detections of a frame."""

    boxes: Tensor  # (n, 4), pixels of the original frame
    scores: Tensor  # (n,)
    labels: Tensor  # LongTensor[n]
    embeds: Tensor  # (n, E)


class TrackMemory(NamedTuple):
    """The objects of one video; a new one replaces the old with every frame."""

    ids: Tensor  # LongTensor[M], in ascending order
    boxes: Tensor  # (M, 4), where the object was last seen, pixels of a frame of ``size``
    labels: Tensor  # LongTensor[M]
    embeds: Tensor  # (M, E), how it last looked
    last_seen: Tensor  # LongTensor[M], count of the frame
    next_id: int  # id of the next new object
    frames: int  # frames seen so far
    size: tuple[int, int]  # (height, width) of the last frame

    @classmethod
    def empty(cls, like: FrameObjects, size: tuple[int, int]) -> 'TrackMemory':
        """A memory without objects, on the device of ``like``."""
        none = like.labels[:0]
        return cls(none, like.boxes[:0], none, like.embeds[:0].float(), none, 0, 0, size)

    def resized(self, size: tuple[int, int]) -> 'TrackMemory':
        """The same objects in a frame of another size (height, width)."""
        if size == self.size:
            return self
        (old_h, old_w), (new_h, new_w) = self.size, size
        x, y = new_w / old_w, new_h / old_h
        return self._replace(boxes=self.boxes * self.boxes.new_tensor((x, y, x, y)), size=size)

    def limited(self, limit: int | None) -> 'TrackMemory':
        """Without the objects unseen for longest beyond ``limit``; all of the last frame stay."""
        if limit is None or len(self.ids) <= limit:
            return self
        limit = max(limit, int((self.last_seen == self.frames - 1).sum()))
        order = self.last_seen.sort(descending=True, stable=True).indices
        keep = order[:limit].sort().values
        fields = ('ids', 'boxes', 'labels', 'embeds', 'last_seen')
        return self._replace(**{name: getattr(self, name)[keep] for name in fields})


class MatchRule(NamedTuple):
    """How detections become objects; the rest see ``SipMaskTracker``."""

    score_weight: float = 1.0  # factor of the logarithm of the detection score
    iou_weight: float = 2.0  # factor of the overlap with the last box
    label_weight: float = 10.0  # reward of an equal class; new objects have it always
    # factor of the logarithm of the similarity; 0 matches by box and class
    embed_weight: float = 1.0
    iou_offset: float = 0.0
    share_ids: bool = False
    update_labels: bool = True
    max_objects: int | None = 256


def match_scores(memory: TrackMemory, found: FrameObjects, rule: MatchRule) -> Tensor:
    """Score of every detection as a new object (column 0) and as each one of the memory: Tensor[n,
    1 + M]."""
    # v_ij = log p_ij + alpha log s_i + beta IoU_ij + gamma [c_i = c_j]; a new object has no box to
    # overlap and any class.
    similar = match_logits(found.embeds, memory.embeds).log_softmax(dim=1)  # (n, 1 + M)
    overlap = F.pad(pairwise_iou(found.boxes, memory.boxes, rule.iou_offset), (1, 0))
    same = F.pad((found.labels[:, None] == memory.labels).float(), (1, 0), value=1.0)
    confidence = found.scores.float().clamp(min=1e-12).log()[:, None]  # (n, 1)
    return (
        rule.embed_weight * similar
        + rule.score_weight * confidence
        + rule.iou_weight * overlap
        + rule.label_weight * same
    )


def outscored(columns: Tensor, scores: Tensor, share_ids: bool) -> Tensor:
    """Detections whose object, LongTensor[n], 0 is never contested, belongs to a better one:
    BoolTensor[n].

    With ``share_ids`` only detections further up the list compete (see ``MatchRule``).
    """
    rank = torch.arange(len(columns), device=columns.device)
    earlier = rank[None, :] < rank[:, None]  # (n, n)
    ahead, equal = scores[None, :] > scores[:, None], scores[None, :] == scores[:, None]
    better = (ahead | equal) & earlier if share_ids else ahead | (equal & earlier)
    rivals = (columns[:, None] == columns[None, :]) & (columns > 0)[:, None]
    return (rivals & better).any(dim=1)


def associate(
    memory: TrackMemory, found: FrameObjects, rule: MatchRule, size: tuple[int, int]
) -> tuple[Tensor, TrackMemory]:
    """Name the objects of a frame of ``size`` (height, width).

    Returns:
        Ids LongTensor[n] of the detections, best first, maybe none; -1 for those that are dropped
        because a better one has their object. And the new memory.
    """
    memory = memory.resized(size)
    now = memory.frames
    if len(found.labels) == 0:
        return found.labels.clone(), memory._replace(frames=now + 1).limited(rule.max_objects)
    scores, columns = match_scores(memory, found, rule).max(dim=1)  # (n), (n)
    dropped = outscored(columns, scores, rule.share_ids)
    is_new = columns == 0
    ids = torch.where(is_new, memory.next_id + is_new.cumsum(0) - 1, columns)
    known = F.pad(memory.ids, (1, 0))[columns]
    ids = torch.where(is_new, ids, known).masked_fill(dropped, DROPPED)
    # With shared ids the best detection of an object is what the memory keeps.
    owner = ~is_new & ~outscored(columns, scores, share_ids=False)
    at, new = owner.nonzero()[:, 0], is_new.nonzero()[:, 0]  # detections
    slot = columns[at] - 1  # where they go
    labels = memory.labels
    if rule.update_labels:
        labels = labels.index_copy(0, slot, found.labels[at])
    embeds = found.embeds.float()
    seen = torch.full_like(ids, now)
    memory = TrackMemory(
        ids=torch.cat((memory.ids, ids[new])),
        boxes=torch.cat((memory.boxes.index_copy(0, slot, found.boxes[at]), found.boxes[new])),
        labels=torch.cat((labels, found.labels[new])),
        embeds=torch.cat((memory.embeds.index_copy(0, slot, embeds[at]), embeds[new])),
        last_seen=torch.cat((memory.last_seen.index_copy(0, slot, seen[at]), seen[new])),
        next_id=memory.next_id + len(new),
        frames=now + 1,
        size=size,
    )
    return ids, memory.limited(rule.max_objects)


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
            ``embed`` (0 matches by box and class alone).
        max_objects: Remembered objects per video; those unseen for longest are dropped. None
            keeps all. Parity: as the original.
        min_score: Detections below it are dropped before they take or become objects. 0, as
            published, lets weak doubles of an object take its id.
        max_videos: Videos remembered at a time.
        iou_offset: Parity: 1 computes overlaps with legacy pixel counting.
        share_ids: Parity: several detections of a frame may take one id, each better than the ones
            before it; the last of them is output.
        update_labels: Remember the class an object was last seen as. Parity: the original keeps
            the first.
        keep_memory_without_detections: Parity: a video whose first frame has no detections goes on
            with the memory of the video before it.
    """

    # Published names of the weights -> fields of the rule.
    WEIGHTS = {
        'det_score': 'score_weight',
        'iou': 'iou_weight',
        'det_label': 'label_weight',
        'embed': 'embed_weight',
    }

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
        given = dict(match_weights or {})
        unknown = sorted(set(given) - set(self.WEIGHTS))
        if unknown:
            raise ValueError(f'unknown match_weights {unknown}: use some of {tuple(self.WEIGHTS)}')
        if max_videos < 1 or (max_objects is not None and max_objects < 1):
            raise ValueError(
                f'max_objects and max_videos must be at least 1, got {max_objects} and {max_videos}'
            )
        if not 0 <= min_score <= 1:
            raise ValueError(f'min_score must lie in [0, 1], got {min_score}')
        self.rule = MatchRule(
            iou_offset=iou_offset,
            share_ids=share_ids,
            update_labels=update_labels,
            max_objects=max_objects,
            **{self.WEIGHTS[name]: weight for name, weight in given.items()},
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
        self, video: Hashable, frame: int, found: FrameObjects, size: tuple[int, int]
    ) -> Tensor:
        """Name the objects of the next frame of a video: ids LongTensor[n], -1 for detections to
        drop.

        Detections come best first, the frame's size is (height, width) of the original and may
        change. Gaps in the frame numbers are fine; the number that the video began with begins it
        anew, a smaller one than the last is a ValueError.
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
        strong = (found.scores >= self.min_score).nonzero()[:, 0]
        seen = FrameObjects(*(values[strong] for values in found))
        named, state.memory = associate(state.memory, seen, self.rule, size)
        ids = torch.full_like(found.labels, DROPPED).index_copy(0, strong, named)  # (n)
        state.last = frame
        self._videos[video] = state
        while len(self._videos) > self.max_videos:
            self._videos.popitem(last=False)
        return ids

    def _first_memory(self, found: FrameObjects, size: tuple[int, int]) -> TrackMemory:
        if self.keep_memory_without_detections and len(found.labels) == 0 and self._videos:
            return next(reversed(self._videos.values())).memory
        return TrackMemory.empty(found, size)
