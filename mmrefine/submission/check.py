"""Find what is wrong with a submission: every bad entry, and why."""

import contextlib
import json
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import Any

from mmrefine.results.cityscapes import check_cityscapes, cityscapes_images
from mmrefine.results.entries import Entry, EntryReader
from mmrefine.results.ground_truth import GroundTruth
from mmrefine.results.json_files import iterate_json_list
from mmrefine.results.tracks import VideoTruth, read_track

from .formats import most_per_image, name_note

Read = Callable[[EntryReader, str, Any], Entry | None]


def find_submission(format: str, path: Path) -> Path:
    """The file that ``make`` wrote for this ``--out``; a file is itself.

    Raises:
        ValueError: A folder holds none or several.
    """
    beside = path.with_name(path.name + {'lvis': '.json', 'youtube-vis': '.zip'}.get(format, ''))
    if format == 'cityscapes' or not path.is_dir():
        return path if path.exists() or not beside.is_file() else beside
    found = sorted(path.glob('*.zip')) or sorted(path.glob('*.json'))
    if len(found) != 1:
        names = ', '.join(file.name for file in found[:5]) or 'no zip or json'
        raise ValueError(f'{path} holds {names}: name the one file to check')
    return found[0]


def check_submission(
    format: str, path: str | Path, gt: str | Path, max_per_image: int | None = None
) -> tuple[list[str], list[str]]:
    """Check a submission of any tool: problems, for which the file is refused, and notes.

    Args:
        format: ``'coco'``, ``'lvis'``, ``'cityscapes'`` or ``'youtube-vis'``.
        path: The file or folder.
        gt: Json with the images (or videos) and categories; Cityscapes: or a folder of its images.
        max_per_image: Default: COCO 100, LVIS 300, else any number.
    """
    most = most_per_image(format, max_per_image)
    if format == 'cityscapes':
        return check_cityscapes(path, cityscapes_images(gt)), []
    if format == 'youtube-vis':
        return check_tracks(path, VideoTruth.load(gt), most), []
    note = name_note(Path(path)) if format == 'coco' else None
    return check_list(path, GroundTruth.load(gt), format, most), [note] if note else []


def check_list(
    path: str | Path, gt: GroundTruth, format: str = 'coco', max_per_image: int | None = None
) -> list[str]:
    """Check a COCO or LVIS result list, plain or zipped, against images and categories that may
    occur.

    Returns:
        One sentence a problem; an empty list for a good file.
    """
    kinds: Counter = Counter()

    def read(reader: EntryReader, label: str, entry: Any) -> Entry | None:
        found = reader.read(label, entry)
        if found is not None:
            given = [k for k in ('segmentation', 'bbox') if entry.get(k) not in (None, [])]
            kinds.update(['entries', *given])
            if not given:
                reader.report(f'{found.label} has neither segmentation nor bbox')
            elif entry.get('bbox', 0) is None:
                reader.report(f'{found.label} has no numbers in its bbox: leave the field out')
        return found

    with _opened(Path(path), None) as source:
        if isinstance(source, str):
            return [source]
        problems = _problems(source, gt, 'image', read, most_per_image(format, max_per_image))
        total, masked, boxed = (kinds[k] for k in ('entries', 'segmentation', 'bbox'))
        if masked not in (0, total) or boxed not in (0, total):
            problems.append(f'only {masked} of {total} entries have masks, {boxed} have boxes')
        return problems


def check_tracks(
    path: str | Path, truth: VideoTruth, max_per_video: int | None = None
) -> list[str]:
    """Check YouTube-VIS results, plain or zipped as ``results.json``; see ``check_list``."""

    def read(reader: EntryReader, label: str, entry: Any) -> Entry | None:
        track = read_track(reader, label, entry, truth)
        if track is None:
            return None
        found, frames = track
        if frames and not any(entry['segmentations']):
            reader.report(f'{found.label} has no mask in any frame')
        return found

    with _opened(Path(path), 'results.json') as source:
        if isinstance(source, str):
            return [source]
        return _problems(source, truth.strips, 'video', read, max_per_video)


@contextlib.contextmanager
def _opened(path: Path, wanted: str | None) -> Iterator[Path | str]:
    """Open the json of a plain or zipped submission; a sentence says why there is none."""
    if not path.is_file():
        yield f'{path} does not exist'
        return
    if not zipfile.is_zipfile(path):
        yield f'{path} is damaged: not a zip archive' if path.suffix == '.zip' else path
        return
    with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as scratch:
        names = [n for n in archive.namelist() if not n.endswith('/')]
        expected = wanted or f'{path.stem}.json'
        if names != [expected]:
            found = ', '.join(names[:5]) or 'nothing'
            yield f'{path} must hold {expected} and nothing else, at the top; it holds {found}'
            return
        try:
            source = Path(archive.extract(names[0], scratch))
        except (zipfile.BadZipFile, EOFError) as error:
            yield f'{path} is damaged: {error}'
            return
        yield source


def _problems(source: Path, gt: GroundTruth, owner: str, read: Read, most: int | None) -> list[str]:
    """What is wrong with the entries of a list, of which an image or video may have ``most``.

    ``read`` reads an entry with a reader that reports, given label and entry.
    """
    problems: list[str] = []
    reader = EntryReader(gt, owner, problems.append, submitted=True)
    counts: Counter = Counter()
    seen: dict[int, int] = {}
    try:
        for i, entry in enumerate(iterate_json_list(source)):
            found = read(reader, f'entry {i}', entry)
            if found is None:
                continue
            if isinstance(entry.get(f'{owner}_id'), Hashable):
                counts[entry.get(f'{owner}_id')] += 1
            # A hash an entry instead of the entry: millions of entries are checked in one pass.
            key = hash(json.dumps(entry, sort_keys=True, default=str))
            if seen.setdefault(key, i) != i:
                problems.append(f'{found.label} repeats entry {seen[key]}')
    except ValueError as error:
        problems.append(str(error))
    reader.finish()
    for owner_id, number in counts.items():
        if most is not None and number > most:
            problems.append(f'{owner} {owner_id} has {number} entries, at most {most} are allowed')
    return problems
