"""YouTube-VIS average precision and recall of tracks."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from copy import copy
from typing import Any

from mmdet.evaluation import BaseVideoMetric
from mmdet.registry import METRICS
from mmengine.fileio import get_local_path

from mmrefine.results.ground_truth import Id
from mmrefine.results.predictions import first_of_each, read_instances, to_numpy
from mmrefine.results.track_file import track_entry
from mmrefine.results.tracks import VideoTruth, load_tracks, write_tracks

from .protocols import require_objects, video_rules
from .scoring_metric import ScoringMetric, log_written, require_same

FRAME = 'the frame (video, number)'


def iterate_frames(data_samples: Sequence[dict]) -> Iterator[dict]:
    """Frames of track samples, as dicts."""
    for track_sample in data_samples:
        for frame in track_sample['video_data_samples']:
            yield frame if isinstance(frame, dict) else frame.to_dict()


def read_frame(frame: dict) -> tuple[str, dict[str, Any]]:
    """Name of a frame for messages; ``read_instances`` of its tracks, with their ``ids``."""
    label = f'video {frame["video_id"]!r}, frame {int(frame["frame_id"])}'
    pred = frame['pred_track_instances']
    found = read_instances(pred, tuple(frame['ori_shape'][:2]), label, need_masks=True)
    ids = to_numpy(pred['instances_id']).reshape(-1).tolist()
    if len(ids) != len(found['scores']):
        raise ValueError(f'{label}: {len(ids)} instances_id for {len(found["scores"])} instances')
    if len(set(ids)) != len(ids):
        double = next(i for i, n in Counter(ids).items() if n > 1)
        raise ValueError(f'{label}: track id {double} is given to more than one instance')
    return label, {**found, 'ids': ids}


@METRICS.register_module()
class VideoMaskAPMetric(ScoringMetric, BaseVideoMetric):
    """Average precision and recall of tracked masks, as YouTube-VIS counts them.

    Replaces ``YouTubeVISMetric``; predicted masks may be dense or RLE. Frames may come
    in any order, whole videos or single frames at a time, split over ranks in any way.

    Args:
        ann_file: YouTube-VIS json; None takes the annotations of the data samples (``instances``
            with ``instance_id``) instead, category ids are then the labels + 1.
        max_dets: Caps on the tracks of a video and category.
        backend: ``'pycocotools'``, or ``'vernier'`` if installed.
        format_only: Write the result file and compute nothing.
        outfile_prefix: Write ``PREFIX.json`` and ``PREFIX.submission_file.zip``.
        prefix: Default ``'youtube_vis'``.
        metric_items: Report these numbers only, e.g. ``['mAP', 'AR@10']``.

    A track's score is the mean over its frames, its category the most frequent one (the lower of
    equals). Results are named ``segm_mAP``, ``segm_mAP_50``, ``segm_mAP_75``, ``segm_mAP_s`` (mean
    area below 128^2 pixels), ``segm_mAP_m``, ``segm_mAP_l`` (above 256^2), ``segm_AR@1``, ...
    """

    default_prefix = 'youtube_vis'

    def __init__(
        self,
        ann_file: str | None = None,
        metric: str | Sequence[str] = 'youtube_vis_ap',
        max_dets: Sequence[int] = (1, 10, 100),
        backend: str = 'pycocotools',
        format_only: bool = False,
        outfile_prefix: str | None = None,
        show_progress: bool = True,
        backend_args: dict | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
        metric_items: Sequence[str] | None = None,
    ) -> None:
        names = {metric} if isinstance(metric, str) else set(metric)
        if not names or names - {'youtube_vis_ap', 'segm'}:
            raise ValueError(
                f"metric must be 'segm' (or stock configs' 'youtube_vis_ap'), got {metric!r}"
            )
        super().__init__(
            video_rules(max_dets),
            backend,
            format_only,
            outfile_prefix,
            show_progress,
            collect_device,
            prefix,
            metric_items,
        )
        self.truth: VideoTruth | None = None
        if ann_file is not None:
            with get_local_path(ann_file, backend_args=backend_args) as path:
                self.truth = VideoTruth.load(path)
            require_objects(self.truth.strips)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Take the tracks of some frames; dense masks are encoded at once."""
        self.results += [self._frame(frame) for frame in iterate_frames(data_samples)]

    def _frame(self, frame: dict) -> dict:
        label, result = read_frame(frame)
        columns = result['labels'].tolist(), result['scores'].tolist(), result['counts']
        ids = result['ids']
        return {
            'video': frame['video_id'],
            'frame': int(frame['frame_id']),
            'path': frame.get('img_path'),
            'length': int(frame['ori_video_length']),
            'size': tuple(frame['ori_shape'][:2]),
            'tracks': list(zip(ids, *columns)),
            'truth': None if self.truth is not None else _frame_truth(frame, label),
        }

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Score all videos."""
        videos: dict[Id, dict[int, dict]] = defaultdict(dict)
        found = (((one['video'], one['frame']), one['path'], one) for one in results)
        for (video, number), entry in first_of_each(found, FRAME).items():
            videos[video][number] = entry
        truth = copy(self.truth or VideoTruth(self._truth_of(videos), 'the data set'))
        truth.strips = self.of_data_set(truth.strips)
        tracks = list(self._tracks(videos, list(truth.strips.categories)))
        if self.outfile_prefix is not None:
            log_written(write_tracks(tracks, self.outfile_prefix))
        if self.format_only:
            return {}
        frames = {(video, number) for video in videos for number in videos[video]}
        counted = {
            (video, i) for video, (_, _, length) in truth.videos.items() for i in range(length)
        }
        require_same(frames, counted, truth.strips.name, 'frames (video, number)')
        return self.score(truth.strips, load_tracks(tracks, truth), ['segm'])

    def _tracks(self, videos: dict, categories: list[Id]) -> Iterator[dict]:
        """YouTube-VIS result entries."""
        for video, frames in sorted(videos.items()):
            length = next(iter(frames.values()))['length']
            for seen in _by_track(frames, 'tracks').values():
                entries = {}
                for number, (label, score, counts) in seen.items():
                    if not 0 <= label < len(categories):
                        raise ValueError(
                            f'video {video!r}: label {label}, but there are {len(categories)} '
                            'categories'
                        )
                    size = list(frames[number]['size'])
                    rle = {'size': size, 'counts': counts.decode('ascii')}
                    entries[number] = label, score, rle
                yield track_entry(video, categories, entries, length)

    def _truth_of(self, videos: dict) -> dict:
        """A YouTube-VIS annotation file made of the annotations of the frames."""
        infos, tracks = [], []
        for video, frames in sorted(videos.items()):
            entry = next(iter(frames.values()))
            (h, w), length = entry['size'], entry['length']
            infos.append({'id': video, 'height': h, 'width': w, 'length': length})
            for seen in _by_track(frames, 'truth').values():
                label, crowd, _ = next(iter(seen.values()))
                masks = [seen[number][2] if number in seen else None for number in range(length)]
                track = {'category_id': label + 1, 'iscrowd': crowd, 'segmentations': masks}
                tracks.append({'video_id': video, **track})
        names = self.dataset_meta['classes']
        categories = [{'id': i + 1, 'name': name} for i, name in enumerate(names)]
        return {'videos': infos, 'annotations': tracks, 'categories': categories}


def _by_track(frames: dict[int, dict], key: str) -> dict[Any, dict[int, tuple]]:
    """Track id -> frame number -> the other values of its entries, in the order of the frames."""
    found: dict[Any, dict[int, tuple]] = defaultdict(dict)
    for number, entry in sorted(frames.items()):
        for track, *values in entry[key]:
            found[track][number] = tuple(values)
    return found


def _frame_truth(frame: dict, label: str) -> list[tuple]:
    if 'instances' not in frame:
        raise ValueError(
            f'{label} has no annotations: give the evaluator ann_file, or keep "instances" in the '
            'meta_keys of PackTrackInputs'
        )
    return [
        (i['instance_id'], int(i['bbox_label']), int(i.get('ignore_flag', 0)), i['mask'])
        for i in frame['instances']
    ]
