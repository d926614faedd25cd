"""Tracks as masks on a film strip, so that the image engines score videos.

The frames of a video lie side by side in one wide image; a track is one mask on it, empty where
the object is not seen. The IoU of two such masks is the spatio-temporal IoU of YouTube-VIS, whose
annotations and results are read here (layout: YouTube-VIS 2019, arXiv 1905.04804).

Shapes:   T frames of h x w pixels make a strip of h x (w T).
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from logging import WARNING
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log

from mmrefine.masks.rle import toggles_to_rle
from mmrefine.masks.run_lengths import misfits, pixel_counts, present, read_runs, to_counts

from .detections import Detections, read_score
from .ground_truth import GroundTruth, Id, load_json
from .json_stream import iterate_json_list


def join_frames(frames: Sequence[bytes | None], size: tuple[int, int]) -> bytes:
    """Lay the masks of a track side by side.

    Args:
        frames: T compressed counts, None where the object is not seen.
        size: ``(h, w)`` of a frame.

    Returns:
        Compressed counts of the strip, ``(h, w T)``.
    """
    h, w = size
    seen = [t for t, counts in enumerate(frames) if counts is not None]
    runs, starts, _ = read_runs(present(frames))
    toggles = [
        np.cumsum(runs[a:b])[: (b - a) // 2 * 2] + t * h * w
        for t, a, b in zip(seen, starts[:-1].tolist(), starts[1:].tolist())
    ]
    places = np.concatenate(toggles) if toggles else np.zeros(0, np.int64)
    strip = toggles_to_rle(places, np.zeros_like(places), 1, (h, w * len(frames)))
    return strip[0]['counts']


def mean_area(frames: Sequence[bytes | None]) -> float:
    """Mean number of pixels over the frames in which the object covers any."""
    areas = pixel_counts(present(frames))
    return float(areas[areas > 0].mean()) if (areas > 0).any() else 0.0


def read_frames(
    label: str, segmentations: Any, size: tuple[int, int], length: int
) -> list[bytes | None]:
    """Check the masks of one track.

    Args:
        label: Names the track in messages.
        segmentations: One RLE, polygon list or None a frame.
        size: ``(h, w)`` of a frame.
        length: Frames of the video.

    Returns:
        One compressed counts or None a frame.

    Raises:
        ValueError: Another number of frames, or a mask that does not decode to a frame.
    """
    if not isinstance(segmentations, (list, tuple)) or len(segmentations) != length:
        got = len(segmentations) if isinstance(segmentations, (list, tuple)) else 'none'
        raise ValueError(
            f'{label} must have "segmentations", a list of {length} masks or nulls, one a frame; '
            f'it has {got}'
        )
    frames: list[bytes | None] = []
    for t, segmentation in enumerate(segmentations):
        try:
            frames.append(None if segmentation is None else to_counts(segmentation, size))
        except ValueError as error:
            raise ValueError(f'{label}, frame {t}: {error}') from None
    seen = [t for t, counts in enumerate(frames) if counts is not None]
    for i in misfits(present(frames), np.full(len(seen), size[0] * size[1]))[:1]:
        raise ValueError(
            f'{label}, frame {seen[i]}: the RLE cannot be decoded to {size[0]} x {size[1]} pixels'
        )
    return frames


class VideoTruth:
    """The videos and tracks of a YouTube-VIS annotation file.

    Args:
        data: Parsed file: ``videos``, ``annotations`` and ``categories``.
        name: Used in messages.

    Attributes:
        videos: Video id -> ``(h, w, T)``.
        strips: The tracks as annotations of film strips.

    Raises:
        ValueError: Something is missing or does not refer to anything.
    """

    def __init__(self, data: Mapping, name: str = 'the ground truth') -> None:
        if not isinstance(data, Mapping) or 'videos' not in data or 'categories' not in data:
            raise ValueError(
                f'{name} has no "videos" and "categories": expected a YouTube-VIS annotation file'
            )
        if not isinstance(data['videos'], list):
            raise ValueError(
                f'{name}: "videos" is a {type(data["videos"]).__name__}, expected a list'
            )
        self.videos = {_id(name, i, v): _shape(name, v) for i, v in enumerate(data['videos'])}
        if len(self.videos) < len(data['videos']):
            counts = Counter(video['id'] for video in data['videos'])
            twice = next(i for i, count in counts.items() if count > 1)
            raise ValueError(f'{name}: "videos" has the id {twice!r} more than once')
        images = [{'id': i, 'height': h, 'width': w * t} for i, (h, w, t) in self.videos.items()]
        tracks = [self._track(name, i, a) for i, a in enumerate(data.get('annotations') or ())]
        self.strips = GroundTruth.from_dict(
            {'images': images, 'annotations': tracks, 'categories': data['categories']}, name=name
        )

    @classmethod
    def load(cls, path: str | Path) -> 'VideoTruth':
        """Read a YouTube-VIS json."""
        return cls(load_json(path), str(path))

    def _track(self, name: str, i: int, annotation: Mapping) -> dict:
        label = f'{name}: annotations[{i}]'
        if not isinstance(annotation, Mapping):
            raise ValueError(f'{label} must be an object with video_id and category_id')
        video = annotation.get('video_id')
        if not isinstance(video, Hashable) or video not in self.videos:
            raise ValueError(f'{label} belongs to video {video!r}, which is not listed')
        h, w, length = self.videos[video]
        frames = read_frames(label, annotation.get('segmentations'), (h, w), length)
        given = [area for area in annotation.get('areas') or () if area]
        return {
            'id': annotation.get('id', i),
            'image_id': video,
            'category_id': annotation.get('category_id'),
            'iscrowd': annotation.get('iscrowd', 0),
            'area': float(np.mean(given)) if given else mean_area(frames),
            'segmentation': {'size': [h, w * length], 'counts': join_frames(frames, (h, w))},
        }


def load_tracks(
    results: str | Path | Iterable[Mapping], truth: VideoTruth, unknown: str = 'error'
) -> Detections:
    """Read YouTube-VIS results as detections on film strips.

    Args:
        results: Path of a json list, or its entries: ``video_id``, ``category_id``, ``score`` and
            ``segmentations`` with one RLE or None a frame.
        truth: What the entries must refer to.
        unknown: What to do with tracks of videos or categories that ``truth`` does not list:
            ``'error'``, or ``'drop'`` them and log how many.

    Raises:
        ValueError: A damaged file, or the first entry that is wrong and why.
    """
    if unknown not in ('error', 'drop'):
        raise ValueError(f"unknown must be 'error' or 'drop', got {unknown!r}")
    entries = iterate_json_list(results) if isinstance(results, (str, Path)) else results
    videos: list[Id] = []
    categories: list[Id] = []
    scores, areas, counts = [], [], []
    dropped: Counter = Counter()
    for i, entry in enumerate(entries):
        label = f'results[{i}]'
        if not isinstance(entry, Mapping):
            raise ValueError(f'{label} is a {type(entry).__name__}: expected an object per track')
        for key in ('video_id', 'category_id', 'score'):
            if key not in entry:
                raise ValueError(f'{label} has no "{key}" (it has {sorted(entry)})')
        foreign = _unlisted(entry, truth)
        if foreign is not None and unknown == 'error':
            raise ValueError(
                f'{label} has the {foreign} {entry[foreign]!r}, which {truth.strips.name} does not '
                'list. If these results cover more than this ground truth, drop such entries: '
                "--unknown drop (unknown='drop')"
            )
        if foreign is not None:
            dropped[foreign] += 1
            continue
        h, w, length = truth.videos[entry['video_id']]
        label = f'{label} (video {entry["video_id"]})'
        frames = read_frames(label, entry.get('segmentations'), (h, w), length)
        scores.append(read_score(label, entry['score']))
        areas.append(mean_area(frames))
        counts.append(join_frames(frames, (h, w)))
        videos.append(entry['video_id'])
        categories.append(entry['category_id'])
    for key, number in dropped.items():
        print_log(
            f'{number} results of unknown {key}s were left out', logger='current', level=WARNING
        )
    return Detections(
        videos,
        categories,
        np.array(scores, np.float64),
        np.full((len(scores), 4), np.nan),
        counts,
        given_areas=np.array(areas, np.float64),
    )


def _unlisted(entry: Mapping, truth: VideoTruth) -> str | None:
    for key, table in (('video_id', truth.videos), ('category_id', truth.strips.categories)):
        if not isinstance(entry[key], Hashable) or entry[key] not in table:
            return key
    return None


def _id(name: str, i: int, video: Any) -> Id:
    if not isinstance(video, Mapping) or 'id' not in video:
        raise ValueError(f'{name}: videos[{i}] has no id')
    return video['id']


def _shape(name: str, video: Mapping) -> tuple[int, int, int]:
    length = video.get('length') or len(video.get('file_names') or ())
    if not length or not video.get('height') or not video.get('width'):
        raise ValueError(f'{name}: video {video.get("id")!r} has no height, width and length')
    return int(video['height']), int(video['width']), int(length)
