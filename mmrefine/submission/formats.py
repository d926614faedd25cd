"""Write results the way the evaluation servers ask for them."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from mmrefine.results.files import write_zip
from mmrefine.results.ground_truth import Id
from mmrefine.results.json_files import write_json_list

FORMATS = ('coco', 'lvis', 'cityscapes', 'youtube-vis')
MAX_PER_IMAGE = {'coco': 100, 'lvis': 300}


def coco_name(split: str, algorithm: str) -> str:
    """File name (without suffix) that COCO's server expects; ValueError for other characters than
    letters, digits, ``-``, ``_``."""
    for name, value in (('split', split), ('algorithm', algorithm)):
        if not re.fullmatch(r'[\w-]+', value):
            raise ValueError(f'{name} may have letters, digits, - and _ only; got {value!r}')
    return f'detections_{split}_{algorithm}_results'


def name_note(path: Path) -> str | None:
    """What COCO's server would say about the file name; None if it is right."""
    if re.fullmatch(r'detections_[\w-]+_results\.(json|zip)', path.name):
        return None
    return (
        f'{path.name}: COCO test servers expect detections_<split>_<algorithm>_results.zip '
        'holding the json of that name'
    )


def most_per_image(format: str, given: int | None) -> int | None:
    """Entries that an image or video may have: as many as asked for, or as the server allows; None
    is any number."""
    if given is not None and given < 1:
        raise ValueError(f'--max-per-image (max_per_image) must be at least 1, got {given}')
    return MAX_PER_IMAGE.get(format) if given is None else given


def best_per_image(
    entries: Iterable[Mapping], most: int | None, owner: str = 'image_id'
) -> Iterator[Mapping]:
    """Keep the ``most`` best entries of an image, or a video with ``owner='video_id'`` (the earlier
    of equal scores); drop scores of 0."""
    images: dict[Id, list[Mapping]] = defaultdict(list)
    for entry in entries:
        if entry['score'] != 0:
            images[entry[owner]].append(entry)
    for rows in images.values():
        yield from sorted(rows, key=lambda row: -row['score'])[:most]


def write_coco_submission(
    entries: Iterable[Mapping], folder: Path, split: str, algorithm: str, most: int | None
) -> list[Path]:
    """Write ``detections_<split>_<algorithm>_results.json`` and its zip; return both paths."""
    json_path = folder / f'{coco_name(split, algorithm)}.json'
    write_json_list(json_path, best_per_image(entries, most))
    write_zip(json_path.with_suffix('.zip'), {json_path.name: json_path})
    return [json_path, json_path.with_suffix('.zip')]
