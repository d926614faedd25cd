"""Which detection is which remembered object: the published score, and unique ids.

Paper:    SipMask, https://arxiv.org/abs/2007.14772, section 3.4; the score is that of MaskTrack
          R-CNN, https://arxiv.org/abs/1905.04804.
Origin:   JialeCao001/SipMask, ``SipMask-VIS``; written anew.

Shapes:   n detections of one frame (best score first), M remembered objects, E channels.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmrefine.fcos import pairwise_iou

from .track_head import match_logits

DROPPED = -1


class Detections(NamedTuple):
    """What the tracker knows of a frame's objects.

    Attributes:
        boxes: Tensor[n, 4], pixels of the original frame.
        scores: Tensor[n].
        labels: LongTensor[n].
        embeds: Tensor[n, E].
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    embeds: Tensor


class TrackMemory(NamedTuple):
    """The objects of one video; a new one takes the place of the old with every frame.

    Attributes:
        ids: LongTensor[M], in ascending order.
        boxes: Tensor[M, 4], where the object was last seen, pixels of a frame of ``size``.
        labels: LongTensor[M].
        embeds: Tensor[M, E], how it last looked.
        last_seen: LongTensor[M], count of the frame.
        next_id: Id of the next new object.
        frames: Frames seen so far.
        size: (height, width) of the last frame.
    """

    ids: Tensor
    boxes: Tensor
    labels: Tensor
    embeds: Tensor
    last_seen: Tensor
    next_id: int
    frames: int
    size: tuple[int, int]

    @classmethod
    def empty(cls, like: Detections, size: tuple[int, int]) -> 'TrackMemory':
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


class MatchRule(NamedTuple):
    """How detections become objects.

    Attributes:
        score_weight: Factor of the logarithm of the detection score.
        iou_weight: Factor of the overlap with the last box.
        label_weight: Reward of an equal class; new objects have it always.
        embed_weight: Factor of the logarithm of the similarity; 0 matches by place and class.
        iou_offset: Parity: 1 counts pixels in the overlap.
        share_ids: Parity: several detections of a frame may take the same id, each better than
            the ones before it.
        update_labels: Remember the class last seen. Parity: the original keeps the first.
        max_objects: Forget those unseen for longest beyond this number; None never forgets.
    """

    score_weight: float = 1.0
    iou_weight: float = 2.0
    label_weight: float = 10.0
    embed_weight: float = 1.0
    iou_offset: float = 0.0
    share_ids: bool = False
    update_labels: bool = True
    max_objects: int | None = 256


def match_scores(memory: TrackMemory, found: Detections, rule: MatchRule) -> Tensor:
    """Score of every detection as a new object (column 0) and as each one of the memory.

    Returns:
        Tensor[n, 1 + M], float32.
    """
    similar = match_logits(found.embeds, memory.embeds).log_softmax(dim=1)
    overlap = F.pad(pairwise_iou(found.boxes, memory.boxes, rule.iou_offset), (1, 0))
    same = F.pad((found.labels[:, None] == memory.labels).float(), (1, 0), value=1.0)
    sure = found.scores.float().clamp(min=1e-12).log()[:, None]
    return (
        rule.embed_weight * similar
        + rule.score_weight * sure
        + rule.iou_weight * overlap
        + rule.label_weight * same
    )


def losers(columns: Tensor, scores: Tensor, share_ids: bool) -> Tensor:
    """Detections whose object belongs to a better one: BoolTensor[n].

    Args:
        columns: LongTensor[n], chosen column; 0 is never contested.
        scores: Tensor[n], score of the choice.
        share_ids: Only detections further up the list compete (see ``MatchRule``).
    """
    rank = torch.arange(len(columns), device=columns.device)
    earlier = rank[None, :] < rank[:, None]
    ahead, equal = scores[None, :] > scores[:, None], scores[None, :] == scores[:, None]
    better = (ahead | equal) & earlier if share_ids else ahead | (equal & earlier)
    rivals = (columns[:, None] == columns[None, :]) & (columns > 0)[:, None]
    return (rivals & better).any(dim=1)


def associate(
    memory: TrackMemory, found: Detections, rule: MatchRule, size: tuple[int, int]
) -> tuple[Tensor, TrackMemory]:
    """Name the objects of a frame.

    Args:
        memory: What the video held so far.
        found: The frame's detections, best first; may be none.
        rule: How to match.
        size: (height, width) of the frame.

    Returns:
        Ids LongTensor[n], -1 for detections that are dropped because a better one has their
        object; and the new memory.
    """
    memory = memory.resized(size)
    now = memory.frames
    if len(found.labels) == 0:
        return found.labels.clone(), forget(memory._replace(frames=now + 1), rule.max_objects)
    scores, columns = match_scores(memory, found, rule).max(dim=1)
    lost = losers(columns, scores, rule.share_ids)
    is_new = columns == 0
    ids = torch.where(is_new, memory.next_id + is_new.cumsum(0) - 1, columns)
    known = F.pad(memory.ids, (1, 0))[columns]
    ids = torch.where(is_new, ids, known).masked_fill(lost, DROPPED)
    # With shared ids the best detection of an object is what the memory keeps.
    owner = ~is_new & ~losers(columns, scores, share_ids=False)
    at, place = owner.nonzero()[:, 0], columns[owner] - 1
    labels = memory.labels
    if rule.update_labels:
        labels = labels.index_copy(0, place, found.labels[at])
    embeds = found.embeds.float()
    seen = torch.full_like(ids, now)
    memory = memory._replace(
        ids=torch.cat((memory.ids, ids[is_new])),
        boxes=torch.cat((memory.boxes.index_copy(0, place, found.boxes[at]), found.boxes[is_new])),
        labels=torch.cat((labels, found.labels[is_new])),
        embeds=torch.cat((memory.embeds.index_copy(0, place, embeds[at]), embeds[is_new])),
        last_seen=torch.cat((memory.last_seen.index_copy(0, place, seen[at]), seen[is_new])),
        next_id=memory.next_id + int(is_new.sum()),
        frames=now + 1,
    )
    return ids, forget(memory, rule.max_objects)


def forget(memory: TrackMemory, limit: int | None) -> TrackMemory:
    """Drop the objects unseen for longest beyond ``limit``; never one of the last frame."""
    if limit is None or len(memory.ids) <= limit:
        return memory
    limit = max(limit, int((memory.last_seen == memory.frames - 1).sum()))
    order = memory.last_seen.sort(descending=True, stable=True).indices
    keep = order[:limit].sort().values
    fields = {
        name: getattr(memory, name)[keep]
        for name in ('ids', 'boxes', 'labels', 'embeds', 'last_seen')
    }
    return memory._replace(**fields)
