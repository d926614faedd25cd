"""Entries of a COCO result list, with the ids of the annotation file.

``predict`` numbers pictures and classes by itself and lists both in ``images.json`` beside its
``predictions.json``; an annotation file has other ids for the same names. Read by id, such results
would count for other pictures and classes.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from .ground_truth import GroundTruth, Id
from .json_files import iterate_json_list, load_json

RESULTS, LISTING = 'predictions.json', 'images.json'


def iterate_results(path: str | Path, gt: GroundTruth) -> Iterator[Any]:
    """Read the entries of a json list one by one.

    Entries of ``predict`` get the ids that ``gt`` has for their file and class names. Names that
    ``gt`` does not list stand in place of the id, which whoever checks the ids then reports.
    """
    entries = iterate_json_list(path)
    listing = Path(path).with_name(LISTING)
    if Path(path).name != RESULTS or not listing.is_file():
        return entries
    listed = load_json(listing)
    try:
        files = {image['id']: image['file_name'] for image in listed['images']}
        names = {category['id']: category['name'] for category in listed['categories']}
    except (KeyError, TypeError):  # of another program
        return entries
    for table, known in ((files, gt.file_names), (names, gt.categories)):
        count = Counter(known.values())
        if twice := [name for name in table.values() if count[name] > 1]:
            raise ValueError(
                f'{gt.name} lists {twice[0]!r} under {count[twice[0]]} ids: give it one, since the '
                f'results in {path} go by names'
            )
    tables = {
        'image_id': matching_files(files, gt.file_names),
        'category_id': _same(names, gt.categories),
    }
    return _translated(entries, tables)


def matching_files(files: Mapping[Id, str], known: Mapping[Id, str]) -> dict[Id, Id | str]:
    """Id of every file among the known ones, or its name where there is none.

    The same path, else the only pair of which one path ends in the other: folders may be left out,
    but ``train/a.jpg`` is not ``val/a.jpg``.
    """
    found = _same(files, known)
    by_name: dict[str, list[Id]] = {}
    for i, name in known.items():
        by_name.setdefault(PurePosixPath(name).name, []).append(i)
    for i, file in files.items():
        if found[i] == file:
            near = [k for k in by_name.get(PurePosixPath(file).name, []) if _tail(file, known[k])]
            found[i] = near[0] if len(near) == 1 else file
    owners = Counter(found.values())
    exact = set(known.values())
    return {i: k if owners[k] == 1 or files[i] in exact else files[i] for i, k in found.items()}


def _tail(first: str, second: str) -> bool:
    """Whether one path ends in the other."""
    short, long = sorted((PurePosixPath(p).parts for p in (first, second)), key=len)
    return long[-len(short) :] == short


def _same(names: Mapping[Id, str], known: Mapping[Id, str]) -> dict[Id, Id | str]:
    by_name = {name: i for i, name in known.items()}
    return {i: by_name.get(name, name) for i, name in names.items()}


def _translated(entries: Iterable[Any], tables: Mapping[str, Mapping]) -> Iterator[Any]:
    for entry in entries:
        for key, table in tables.items():
            if isinstance(entry, dict) and isinstance(entry.get(key), (int, str)):
                entry[key] = table.get(entry[key], entry[key])
        yield entry
