"""Read and write YouTube-VIS annotations and results (layout: YouTube-VIS 2019, arXiv 1905.04804).

Tracks become masks on a film strip: the frames of a video lie side by side in one wide image, and a
track is one mask on it, empty where the object is not seen. The IoU of two such masks is the
spatio-temporal IoU of YouTube-VIS, so that the engines for images score videos.

Shapes:   T frames of h x w pixels make a strip of h x (w T).
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmrefine.masks.rle import toggles_to_rle
from mmrefine.masks.run_lengths import pixel_counts, present, read_runs

from .annotations import require_lists, video_faults
from .detections import Detections, in_columns
from .entries import Entry, EntryReader
from .fields import MaskReader, is_number
from .files import write_zip
from .ground_truth import GroundTruth, Id
from .json_files import iterate_json_list, load_json, write_json_list


def join_frames(frames: Sequence[bytes | None], size: tuple[int, int]) -> bytes:
    """Lay the masks of a track side by side.

    T compressed counts of frames of ``size`` (h, w), None where the object is not seen ->
    compressed counts of the strip, (h, w T).
    """
    h, w = size
    seen = [t for t, counts in enumerate(frames) if counts is not None]
    runs, starts, _ = read_runs(present(frames))
    toggles = [
        np.cumsum(runs[a:b])[: (b - a) // 2 * 2] + t * h * w
        for t, a, b in zip(seen, starts[:-1].tolist(), starts[1:].tolist())
    ]
    joined = np.concatenate([np.zeros(0, np.int64), *toggles])
    strip = toggles_to_rle(joined, np.zeros_like(joined), 1, (h, w * len(frames)))
    return strip[0]['counts']


def mean_area(frames: Sequence[bytes | None]) -> float:
    """Mean number of pixels over the frames in which the object covers any."""
    areas = pixel_counts(present(frames))
    return float(areas[areas > 0].mean()) if (areas > 0).any() else 0.0


def read_frames(
    label: str, segmentations: Any, shape: tuple[int, int, int], reader: MaskReader
) -> list[bytes | None]:
    """Read the masks of one track.

    Args:
        label: Names the track in messages.
        segmentations: One RLE, polygon list or None a frame.
        shape: ``(h, w, T)`` of the video.
        reader: Gets what is wrong: another number of frames, or a mask that does not decode.

    Returns:
        One compressed counts or None a frame; an empty list if their number is wrong.
    """
    h, w, length = shape
    if not isinstance(segmentations, (list, tuple)) or len(segmentations) != length:
        got = len(segmentations) if isinstance(segmentations, (list, tuple)) else 'none'
        reader.report(
            f'{label} must have "segmentations", a list of {length} masks or nulls, one a frame; '
            f'it has {got}'
        )
        return []
    frames = [
        reader.read(f'{label}, frame {t}', segmentation, (h, w))
        for t, segmentation in enumerate(segmentations)
    ]
    reader.check()
    return frames


class VideoTruth:
    """Videos and tracks of a YouTube-VIS annotation file.

    Args:
        data: Parsed file: ``videos``, ``annotations`` and ``categories``.
        name: Used in messages.

    Attributes:
        videos: Video id -> ``(h, w, T)``.
        strips: The tracks as annotations of film strips.
    """

    def __init__(self, data: Mapping, name: str = 'the ground truth') -> None:
        if not isinstance(data, Mapping) or 'videos' not in data or 'categories' not in data:
            raise ValueError(
                f'{name} has no "videos" and "categories": expected a YouTube-VIS annotation file'
            )
        require_lists(data, name, ['videos', 'categories'], optional=['annotations'])
        for fault in video_faults(data['videos']):
            raise ValueError(f'{name}: {fault.sentence}')
        self.videos: dict[Id, tuple[int, int, int]] = {
            video['id']: _shape(f'{name}: video {video["id"]!r}', video) for video in data['videos']
        }
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
        h, w, length = shape = self.videos[video]
        frames = read_frames(label, annotation.get('segmentations'), shape, MaskReader())
        areas = annotation.get('areas')
        areas = [None] * length if areas in (None, []) else areas
        if (
            not isinstance(areas, (list, tuple))
            or len(areas) != length
            or not all(map(_area, areas))
        ):
            raise ValueError(
                f'{label} has the areas {areas!r}: expected {length} numbers or nulls, one a frame'
            )
        given = [area for area in areas if area]
        return {
            'id': annotation.get('id', i),
            'image_id': video,
            'category_id': annotation.get('category_id'),
            'iscrowd': annotation.get('iscrowd', 0),
            'area': float(np.mean(given)) if given else mean_area(frames),
            'segmentation': {'size': [h, w * length], 'counts': join_frames(frames, (h, w))},
        }


def read_track(
    reader: EntryReader, label: str, entry: Any, truth: VideoTruth
) -> tuple[Entry, list[bytes | None]] | None:
    """Read a result entry of a video with a reader made with ``truth.strips`` and
    ``owner='video'``.

    Returns:
        Ids and score, and the frames as ``read_frames`` returns them; None if the entry is no
        object, or dropped.
    """
    found = reader.read_ids(label, entry)
    if found is None:
        return None
    frames: list[bytes | None] = []
    if found.image is not None:
        shape = truth.videos[found.image]
        frames = read_frames(found.label, entry.get('segmentations'), shape, reader.masks)
    return found, frames


def load_tracks(
    results: str | Path | Iterable[Mapping], truth: VideoTruth, unknown: str = 'error'
) -> Detections:
    """Read YouTube-VIS results as detections on film strips; ``unknown`` and errors as in
    ``load_results``.

    Args:
        results: Path of a json list, or its entries: ``video_id``, ``category_id``, ``score`` and
            ``segmentations`` with one RLE or None a frame.
        truth: What the entries must refer to.
    """
    reader = EntryReader(truth.strips, 'video', unknown=unknown)
    areas = []
    entries = iterate_json_list(results) if isinstance(results, (str, Path)) else results

    def strips() -> Iterator[Entry]:
        for i, entry in enumerate(entries):
            if track := read_track(reader, f'results[{i}]', entry, truth):
                found, frames = track
                areas.append(mean_area(frames))
                yield found._replace(counts=join_frames(frames, truth.videos[found.image][:2]))

    dt = in_columns(strips())
    reader.finish()
    dt.given_areas = np.array(areas, np.float64)
    return dt


def write_tracks(tracks: Iterable[Mapping], prefix: str | Path) -> list[str]:
    """Write result entries to ``PREFIX.json`` and, as ``results.json``, to
    ``PREFIX.submission_file.zip``; return both paths."""
    json_path, archive = Path(f'{prefix}.json'), Path(f'{prefix}.submission_file.zip')
    write_json_list(json_path, tracks)
    write_zip(archive, {'results.json': json_path})
    return [str(json_path), str(archive)]


def _area(value: Any) -> bool:
    return value is None or (is_number(value) and value >= 0)


def _shape(label: str, video: Mapping) -> tuple[int, int, int]:
    names = video.get('file_names') or ()
    count = len(names) if isinstance(names, (list, tuple)) else names
    length = count if video.get('length') is None else video['length']
    if not is_number(length) or length < 1 or length % 1 or (names and length != count):
        raise ValueError(
            f'{label} has the length {video.get("length")!r} and {count!r} file_names: expected a '
            'whole number of frames above 0, and a name a frame if there are names'
        )
    return int(video['height']), int(video['width']), int(length)
