"""Find what is wrong with a submission: every bad entry, and why."""

import contextlib
import io
import json
import math
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO

from mmrefine.masks.run_lengths import misfits, to_counts
from mmrefine.results.detections import read_box
from mmrefine.results.ground_truth import GroundTruth, load_json
from mmrefine.results.json_stream import iterate_json_list
from mmrefine.results.tracks import VideoTruth, read_frames

from .formats import MAX_PER_IMAGE

CHUNK = 4096  # masks decoded at once


def check_list(
    path: str | Path, gt: GroundTruth, format: str = 'coco', max_per_image: int | None = None
) -> list[str]:
    """Check a COCO or LVIS result list, plain or zipped.

    Args:
        path: The json, or a zip that holds it alone.
        gt: Images and categories that may occur; annotations are not needed.
        format: ``'coco'`` or ``'lvis'``.
        max_per_image: Default: 100 for COCO, 300 for LVIS.

    Returns:
        One sentence a problem; an empty list for a good file.
    """
    with _opened(Path(path), None) as source:
        if isinstance(source, str):
            return [source]
        problems = list(_list_problems(source, gt, max_per_image or MAX_PER_IMAGE[format]))
        return problems or _load_as_the_server(source, gt, format)


def check_tracks(
    path: str | Path, truth: VideoTruth, max_per_video: int | None = None
) -> list[str]:
    """Check YouTube-VIS results, plain or zipped as ``results.json``.

    Args:
        path: The json or zip.
        truth: Videos and categories that may occur.
        max_per_video: Most tracks a video, default: any number.

    Returns:
        One sentence a problem; an empty list for a good file.
    """
    with _opened(Path(path), 'results.json') as source:
        if isinstance(source, str):
            return [source]
        return list(_track_problems(source, truth, max_per_video))


@contextlib.contextmanager
def _opened(path: Path, wanted: str | None) -> Iterator[Path | str]:
    """The json of a plain or zipped submission, or a sentence that says why there is none."""
    import tempfile

    if not path.is_file():
        yield f'{path} does not exist'
        return
    if not zipfile.is_zipfile(path):
        if path.suffix == '.zip':
            yield f'{path} is damaged: not a zip archive'
            return
        yield path
        return
    with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as scratch:
        names = [n for n in archive.namelist() if not n.endswith('/')]
        expected = wanted or f'{path.stem}.json'
        if names != [expected]:
            found = ', '.join(names[:5]) or 'nothing'
            yield f'{path} must hold {expected} and nothing else, at the top; it holds {found}'
            return
        try:
            yield Path(archive.extract(names[0], scratch))
        except (zipfile.BadZipFile, EOFError) as error:
            yield f'{path} is damaged: {error}'


def _walk(source: Path) -> Iterator[tuple[int, Any]]:
    yield from enumerate(iterate_json_list(source))


def _list_problems(source: Path, gt: GroundTruth, most: int) -> Iterator[str]:
    seen: dict[int, int] = {}
    count: Counter = Counter()
    masks: list[tuple[str, bytes, int]] = []
    kinds: Counter = Counter()
    try:
        for i, entry in _walk(source):
            label = f'entry {i}'
            if not isinstance(entry, Mapping):
                yield f'{label} is a {type(entry).__name__}, expected an object: wrong nesting'
                continue
            yield from _key_problems(label, entry, ('image_id', 'category_id', 'score'))
            image = entry.get('image_id')
            label += f' (image {image})'
            yield from _id_problems(label, entry, 'image_id', gt.sizes)
            yield from _id_problems(label, entry, 'category_id', gt.categories)
            yield from _score_problems(label, entry)
            yield from _shape_problems(label, entry, gt, masks)
            kinds.update(k for k in ('segmentation', 'bbox') if entry.get(k) is not None)
            if isinstance(image, Hashable):
                count[image] += 1
            yield from _repeat_problems(label, i, entry, seen)
            if len(masks) >= CHUNK:
                yield from _undecodable(masks)
    except ValueError as error:
        yield str(error)
    yield from _undecodable(masks)
    total = sum(count.values())
    if kinds['segmentation'] not in (0, total) or kinds['bbox'] not in (0, total):
        masked, boxed = kinds['segmentation'], kinds['bbox']
        yield f'only {masked} of {total} entries have masks, {boxed} have boxes'
    for image, number in count.items():
        if number > most:
            yield f'image {image} has {number} entries, at most {most} are allowed'


def _track_problems(source: Path, truth: VideoTruth, most: int | None) -> Iterator[str]:
    seen: dict[int, int] = {}
    count: Counter = Counter()
    try:
        for i, entry in _walk(source):
            label = f'entry {i}'
            if not isinstance(entry, Mapping):
                yield f'{label} is a {type(entry).__name__}, expected an object: wrong nesting'
                continue
            yield from _key_problems(
                label, entry, ('video_id', 'category_id', 'score', 'segmentations')
            )
            video = entry.get('video_id')
            label += f' (video {video})'
            yield from _id_problems(label, entry, 'video_id', truth.videos)
            yield from _id_problems(label, entry, 'category_id', truth.strips.categories)
            yield from _score_problems(label, entry)
            if isinstance(video, Hashable) and video in truth.videos:
                h, w, length = truth.videos[video]
                try:
                    frames = read_frames(label, entry.get('segmentations'), (h, w), length)
                    if all(f is None for f in frames):
                        yield f'{label} has no mask in any frame'
                except ValueError as error:
                    yield str(error)
                count[video] += 1
            yield from _repeat_problems(label, i, entry, seen)
    except ValueError as error:
        yield str(error)
    for video, number in count.items():
        if most is not None and number > most:
            yield f'video {video} has {number} entries, at most {most} are allowed'


def _key_problems(label: str, entry: Mapping, keys: Iterable[str]) -> Iterator[str]:
    for key in keys:
        if key not in entry:
            yield f'{label} has no "{key}"'


def _id_problems(label: str, entry: Mapping, key: str, known: Mapping) -> Iterator[str]:
    if key in entry and (not isinstance(entry[key], Hashable) or entry[key] not in known):
        yield f'{label} has the unknown {key} {entry[key]!r}'


def _score_problems(label: str, entry: Mapping) -> Iterator[str]:
    score = entry.get('score', 1.0)
    number = isinstance(score, (int, float)) and not isinstance(score, bool)
    if not number or not math.isfinite(score) or not 0 < score <= 1:
        yield f'{label} has the score {score!r}, which is not in (0, 1]'


def _shape_problems(
    label: str, entry: Mapping, gt: GroundTruth, masks: list[tuple[str, bytes, int]]
) -> Iterator[str]:
    if entry.get('segmentation') is None and entry.get('bbox') is None:
        yield f'{label} has neither segmentation nor bbox'
    try:
        read_box(label, entry.get('bbox'))
    except ValueError as error:
        yield str(error)
    image = entry.get('image_id')
    if entry.get('segmentation') is None or not isinstance(image, Hashable):
        return
    if not isinstance(entry['segmentation'], Mapping):
        yield f'{label}: the segmentation must be an RLE object'
    elif image in gt.sizes:
        size = gt.sizes[image]
        try:
            masks.append((label, to_counts(entry['segmentation'], size), size[0] * size[1]))
        except ValueError as error:
            yield f'{label}: {error}'


def _undecodable(masks: list[tuple[str, bytes, int]]) -> Iterator[str]:
    areas = np.array([area for _, _, area in masks], np.int64)
    for i in misfits([counts for _, counts, _ in masks], areas).tolist():
        yield f'{masks[i][0]}: the RLE cannot be decoded to the {masks[i][2]} pixels of its image'
    masks.clear()


def _repeat_problems(label: str, i: int, entry: Mapping, seen: dict[int, int]) -> Iterator[str]:
    # A hash an entry instead of the entry: millions of entries are checked in one pass.
    key = hash(json.dumps(entry, sort_keys=True, default=str))
    if seen.setdefault(key, i) != i:
        yield f'{label} repeats entry {seen[key]}'


def _load_as_the_server(source: Path, gt: GroundTruth, format: str) -> list[str]:
    """Hand a good file to the official loader."""
    data = {
        'images': [{'id': i, 'height': h, 'width': w} for i, (h, w) in gt.sizes.items()],
        'categories': [{'id': i, 'name': name} for i, name in gt.categories.items()],
        'annotations': [],
    }
    results = load_json(source)
    if not results:
        return []
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            load = _lvis_loader() if format == 'lvis' else None
            (load or _coco_loader)(data, results)
    except Exception as error:  # whatever the loader stumbles over, the server would too
        return [f'the official loader refuses the file: {type(error).__name__}: {error}']
    return []


def _coco_loader(data: dict, results: list) -> None:
    api = COCO()
    api.dataset = data
    api.createIndex()
    api.loadRes(results)


def _lvis_loader() -> Callable[[dict, list], None] | None:
    try:
        from lvis import LVIS, LVISResults
    except ModuleNotFoundError:
        return None
    import logging

    def load(data: dict, results: list) -> None:
        api = LVIS.__new__(LVIS)
        api.logger, api.dataset = logging.getLogger('lvis'), data
        api.logger.setLevel(logging.ERROR)
        api._create_index()
        LVISResults(api, results)

    return load


def name_note(path: Path) -> str | None:
    """What COCO's server would say about the file name; None if it is fine."""
    if re.fullmatch(r'detections_[\w-]+_results\.(json|zip)', path.name):
        return None
    return (
        f'{path.name}: COCO test servers expect detections_<split>_<algorithm>_results.zip '
        'holding the json of that name'
    )
