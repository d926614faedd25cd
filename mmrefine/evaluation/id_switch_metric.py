"""Count how often a tracked object changes its id.

Average precision of tracks falls with every switched id, as it does with bad masks. Here switches
are counted alone, as in multi-object tracking (CLEAR MOT, Bernardin and Stiefelhagen 2008): in
every frame, predictions are matched to objects by mask overlap; an object that is matched to
another id than the last time has switched.
"""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from mmdet.evaluation import BaseVideoMetric
from mmdet.registry import METRICS
from scipy.optimize import linear_sum_assignment

from mmrefine.masks.run_lengths import to_counts
from mmrefine.results.predictions import first_of_each, to_numpy

from .greedy import pairwise_ious
from .video_metric import FRAME, iterate_frames, read_frame


@METRICS.register_module()
class IdSwitchMetric(BaseVideoMetric):
    """Switches of identity, and the share of objects found.

    Args:
        iou_threshold: Overlap from which a prediction counts as an object.
        score_threshold: Predictions below it are left out.
        prefix: Default ``'tracks'``.

    Needs ``instances`` with ``instance_id`` in the meta keys of the frames, as ``PackTrackInputs``
    keeps them. Results: ``id_switches``; ``switch_rate``, switches per frame in which an object was
    found again; ``recall``, the share of objects and frames that were found. Crowds do not count.
    """

    default_prefix = 'tracks'

    def __init__(
        self,
        iou_threshold: float = 0.5,
        score_threshold: float = 0.0,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        for name, value in (('iou', iou_threshold), ('score', score_threshold)):
            if not 0 <= value <= 1:
                raise ValueError(f'{name}_threshold must lie in [0, 1], got {value}')
        self.iou_threshold = iou_threshold
        self.score_threshold = score_threshold

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Match the frames of a batch."""
        for frame in iterate_frames(data_samples):
            place = (frame['video_id'], int(frame['frame_id']))
            self.results.append((place, frame.get('img_path'), self._matches(frame)))

    def _matches(self, frame: dict) -> dict[Hashable, int | None]:
        """Object -> id it was found under in the frame, None where it was missed."""
        size = tuple(frame['ori_shape'][:2])
        label, pred = read_frame(frame)
        if 'instances' not in frame:
            raise ValueError(
                f'{label} has no annotations: keep "instances" in the meta_keys of PackTrackInputs'
            )
        truth = [i for i in frame['instances'] if not i.get('ignore_flag', 0)]
        scores = to_numpy(frame['pred_track_instances']['scores']).reshape(-1)  # as they round
        keep = np.flatnonzero(scores >= self.score_threshold)
        found = [_rle(pred['counts'][i], size) for i in keep]
        matched: dict[Hashable, int | None] = {i['instance_id']: None for i in truth}
        if not truth or not found:
            return matched
        overlap = pairwise_ious([_rle(to_counts(i['mask'], size), size) for i in truth], found)
        # More than any sum of overlaps: pairs under the threshold never displace one above it.
        worth = np.where(overlap >= self.iou_threshold, 1e3 + overlap, 0.0)
        for row, column in zip(*linear_sum_assignment(worth, maximize=True)):
            if overlap[row, column] >= self.iou_threshold:
                matched[truth[row]['instance_id']] = pred['ids'][keep[column]]
        return matched

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Count over all videos; frames may have come in any order."""
        paths: dict[tuple, list[int | None]] = defaultdict(list)
        frames = first_of_each(results, FRAME).items()
        for (video, _), matched in sorted(frames, key=lambda one: (str(one[0][0]), one[0][1])):
            for key, track in matched.items():
                paths[video, key].append(track)
        seen = [[one for one in path if one is not None] for path in paths.values()]
        switches = sum(a != b for path in seen for a, b in zip(path, path[1:]))
        again = sum(max(len(path) - 1, 0) for path in seen)
        total = sum(map(len, paths.values()))
        return {
            'id_switches': float(switches),
            'switch_rate': switches / again if again else 0.0,
            'recall': sum(map(len, seen)) / total if total else -1.0,
        }


def _rle(counts: bytes, size: tuple[int, int]) -> dict:
    return {'size': list(size), 'counts': counts}
