"""What a user names as input: pictures, folders, patterns, lists and videos."""

import glob
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2

from mmrefine.datasets.sources.records import PICTURES, text_of
from mmrefine.results.log import log_warning

VIDEOS = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg')
PAGED = ('.tif', '.tiff', '.gif', '.webp')  # may hold several pictures


@dataclass(frozen=True)
class Picture:
    """One picture to predict."""

    path: Path
    name: Path  # path that results are filed under, relative and without suffix; unique in a run
    file_name: str  # its own name in lists: relative to the folder given, else as given; unique


def find_inputs(inputs: Sequence[str | Path]) -> tuple[list[Picture], list[Path]]:
    """Resolve inputs: pictures in their order, and videos.

    Inputs are picture and video files, folders (with their sub-folders), patterns as ``*.jpg``, or
    ``.txt`` files with a path a line, relative to the list. A FileNotFoundError names one that
    leads to no file, a ValueError a list that is no UTF-8; a warning, what folders hold besides,
    and pictures of which one page is read.
    """
    pictures: dict[Path, Path] = {}
    videos: dict[Path, None] = {}
    for given in inputs:
        for base, path in _expand(str(given)):
            if path.suffix.lower() in VIDEOS:
                videos[path] = None
            else:
                pictures.setdefault(path, path.relative_to(base))
    paged = [path for path in pictures if path.suffix.lower() in PAGED]
    _warn('only the first page is read of', [p for p in paged if cv2.imcount(str(p)) > 1])
    return list(_distinct(pictures)), list(videos)


def refuse_inputs_in(folder: Path, inputs: Iterable[Path]) -> None:
    """Raise ValueError if an input lies in a folder that results are written to."""
    for path in inputs:
        if path.resolve().is_relative_to(folder.resolve()):
            raise ValueError(
                f'{path} lies in {folder}, where results are written: choose another folder for '
                'them, outside the inputs'
            )


def _expand(given: str) -> Iterator[tuple[Path, Path]]:
    """Folder that names are relative to, and file, of everything one input leads to."""
    path = Path(given)
    if path.is_dir():
        # macOS puts ._NAME beside NAME
        others = {p for p in path.rglob('*') if p.is_file() and not p.name.startswith('._')}
        files = sorted(p for p in others if p.suffix.lower() in PICTURES)
        others.difference_update(files)
        files += sorted(p for p in others if p.suffix.lower() in VIDEOS)
        others.difference_update(files)
        _warn(f'{path} holds files that are neither pictures nor videos by their suffix:', others)
        if not files:
            raise FileNotFoundError(
                f'{path} holds no pictures or videos ({", ".join(PICTURES + VIDEOS)})'
            )
        yield from ((path, file) for file in files)
    elif path.suffix.lower() == '.txt' and path.is_file():
        files = [path.parent / line.strip() for line in text_of(path).splitlines() if line.strip()]
        if missing := [file for file in files if not file.is_file()]:
            raise FileNotFoundError(
                f'{path} lists {len(files)} files, of which {len(missing)} do not exist, the first '
                f'is {missing[0]}'
            )
        yield from ((file.parent, file) for file in files)
    elif path.is_file():
        yield path.parent, path
    elif glob.has_magic(given):
        matches = sorted(Path(found) for found in glob.glob(given, recursive=True))
        files = [file for file in matches if file.is_file()]
        if '**' not in given:  # folders on the way are meant to match there
            _warn(
                f'{given} matches folders, whose files are left out:', {*matches}.difference(files)
            )
        if not files:
            raise FileNotFoundError(f'no file matches {given}')
        yield from ((file.parent, file) for file in files)
    else:
        raise FileNotFoundError(f'there is no {given} (in {Path.cwd()})')


def _warn(text: str, files: Iterable[Path]) -> None:
    """Log a warning that names the first few of some files, if there are any."""
    names = sorted(map(str, files))
    if names:
        more = f' and {len(names) - 3} more' if len(names) > 3 else ''
        log_warning(f'{text} {", ".join(names[:3])}{more}')


def _distinct(pictures: dict[Path, Path]) -> Iterator[Picture]:
    """Give pictures of equal names in different folders, or of different suffixes, other names."""
    taken: set[Path] = set()
    shared = Counter(pictures.values())
    for path, relative in pictures.items():
        name = candidate = relative.with_suffix('')
        number = 2
        while candidate in taken:
            candidate, number = name.with_name(f'{name.name}_{number}'), number + 1
        taken.add(candidate)
        file_name = relative if shared[relative] == 1 else path
        yield Picture(path, candidate, file_name.as_posix())


def read_world_file(path: Path) -> list[float]:
    """Read where a picture lies on a map, from the world file beside it.

    ``a.tif`` has ``a.tfw``, ``a.tifw`` or ``a.wld``: six lines, four for the step of a column and a
    row, two for the centre of the first pixel.

    Returns:
        ``[a, b, d, e, x, y]`` of shapely: the corner of the first pixel is at (x, y), a column
        further is (a, d), a row (b, e).

    Raises:
        FileNotFoundError: There is none.
        ValueError: It does not hold six numbers, or all of the picture falls on one line.
    """
    end = path.suffix[1:].lower()
    names = [f'.{end[:1]}{end[-1:]}w', f'.{end}w', '.wld']
    found = [file for name in names if (file := path.with_suffix(name)).is_file()]
    if not found:
        raise FileNotFoundError(f'{path} has no world file beside it ({", ".join(names)})')
    try:
        a, d, b, e, x, y = (float(word) for word in found[0].read_text().split())
    except ValueError:
        raise ValueError(f'{found[0]} is no world file: expected six numbers') from None
    if not abs(a * e - b * d) > 0:
        raise ValueError(f'{found[0]} puts all columns and rows on one line')
    return [a, b, d, e, x - (a + b) / 2, y - (d + e) / 2]
