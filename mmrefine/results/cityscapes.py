"""Read, write and check Cityscapes predictions: a text file an image and a PNG an instance."""

import io
import math
import re
import zipfile
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from PIL import Image

from mmrefine.masks import to_dense

from .detections import Detections
from .files import atomic_file, write_zip
from .ground_truth import GroundTruth, Id
from .image_files import image_file
from .json_files import load_json

SIZE = (1024, 2048)  # (h, w) of every Cityscapes image
# Ids of the Cityscapes classes that are scored as instances (cityscapesscripts.helpers.labels).
CITYSCAPES_IDS = {
    'person': 24,
    'rider': 25,
    'car': 26,
    'truck': 27,
    'bus': 28,
    'train': 31,
    'motorcycle': 32,
    'bicycle': 33,
}


def cityscapes_stem(file_name: str) -> str:
    """``<city>_<sequence>_<frame>_leftImg8bit`` of an image path; ValueError for another kind of
    name."""
    match = re.match(r'(.+_\d+_\d+)(_leftImg8bit|_gtFine_\w+)?$', Path(file_name).stem)
    if match is None:
        raise ValueError(
            f'{file_name!r} is no Cityscapes image: expected '
            '<city>_<sequence>_<frame>_leftImg8bit.png'
        )
    return f'{match[1]}_leftImg8bit'


def cityscapes_labels(gt: GroundTruth) -> dict[Id, int]:
    """Cityscapes label id of every category, by name; ValueError for one that is none of the eight
    with instances."""
    for name in gt.categories.values():
        if name not in CITYSCAPES_IDS:
            raise ValueError(
                f'category {name!r} is none of the Cityscapes classes with instances: '
                f'{", ".join(CITYSCAPES_IDS)}'
            )
    return {category: CITYSCAPES_IDS[name] for category, name in gt.categories.items()}


def cityscapes_images(gt: str | Path) -> dict[str, tuple[int, int]]:
    """Images that need a text file: ``<city>_<sequence>_<frame>_leftImg8bit`` -> ``(h, w)``.

    ``gt`` is a json with ``images``, or a folder with ``*_leftImg8bit.png`` or
    ``*_gtFine_instanceIds.png``.
    """
    gt = Path(gt)
    if gt.is_dir():
        files = [*gt.rglob('*_leftImg8bit.png'), *gt.rglob('*_gtFine_instanceIds.png')]
        sizes = {cityscapes_stem(p.name): SIZE for p in files}
    else:
        data = load_json(gt)
        truth = GroundTruth.from_dict(data, name=str(gt))
        sizes = {cityscapes_stem(image_file(i)): truth.sizes[i['id']] for i in data['images']}
    if not sizes:
        raise ValueError(f'{gt} names no Cityscapes images')
    return sizes


def write_cityscapes_image(
    folder: Path, file_name: str, masks: list[dict], labels: list[int], scores: list[float]
) -> Path:
    """Write one image's instances: a PNG each, decoded one at a time, and the text file that lists
    them. Empty masks, which the server refuses, are left out.

    Returns:
        The text file ``<image>_pred.txt``; it is written last, so it never names a missing PNG.
    """
    stem = cityscapes_stem(file_name)
    lines = []
    for i, (mask, label, score) in enumerate(zip(masks, labels, scores, strict=True)):
        name = f'{stem}_{i}_{label}.png'
        pixels = to_dense([mask])[0].numpy()
        if not pixels.any():
            continue
        ok, data = cv2.imencode('.png', pixels.astype(np.uint8) * 255)
        if not ok:
            raise OSError(f'could not encode {name}')
        with atomic_file(folder / name, 'wb') as file:
            file.write(data.tobytes())
        lines.append(f'{name} {label} {score:.9g}\n')
    text = folder / f'{stem}_pred.txt'
    with atomic_file(text) as file:
        file.writelines(lines)
    return text


def write_cityscapes_tree(
    dt: Detections, gt: GroundTruth, file_names: Mapping[Id, str], folder: str | Path
) -> dict[Id, Path]:
    """Write the txt + png tree of detections with masks for all images, also those without any.

    ``file_names`` is image id -> path of the image; the result image id -> text file.
    """
    labels = cityscapes_labels(gt)
    rows: dict[Id, list[int]] = defaultdict(list)
    for i, image in enumerate(dt.image_ids):
        rows[image].append(i)
    scores = dt.scores if dt.mask_scores is None else dt.mask_scores
    return {
        image: write_cityscapes_image(
            Path(folder),
            file_name,
            [{'size': list(gt.sizes[image]), 'counts': dt.counts[i]} for i in rows[image]],
            [labels[dt.category_ids[i]] for i in rows[image]],
            [float(scores[i]) for i in rows[image]],
        )
        for image, file_name in file_names.items()
    }


def zip_tree(folder: str | Path, path: str | Path) -> str:
    """Pack a txt + png tree."""
    folder = Path(folder)
    files = [p for p in sorted(folder.rglob('*')) if p.is_file() and p.suffix in ('.txt', '.png')]
    write_zip(path, {str(p.relative_to(folder)): p for p in files})
    return str(path)


def check_cityscapes(path: str | Path, sizes: Mapping[str, tuple[int, int]]) -> list[str]:
    """Check a tree that is to be submitted, a folder or zip, against what ``cityscapes_images``
    returns.

    Returns:
        One sentence a problem; an empty list for a good tree.
    """
    path = Path(path)
    if not path.exists():
        return [f'{path} does not exist']
    if path.is_dir():
        names = [p.relative_to(path).as_posix() for p in path.rglob('*') if p.is_file()]
        return list(_problems(path, names, sizes))
    if not zipfile.is_zipfile(path):
        return [f'{path} is neither a folder nor a zip archive']
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if not name.endswith('/')]
        return list(_problems(zipfile.Path(archive), names, sizes))


def texts_of_images(
    names: Iterable[str], images: Container[str]
) -> tuple[dict[str, str], list[str], list[tuple[str, str]]]:
    """Sort text files by their images: image -> file, files of none, and second ones with image."""
    texts: dict[str, str] = {}
    foreign, doubled = [], []
    for name in sorted(names):
        try:
            stem = cityscapes_stem(PurePosixPath(name).stem.removesuffix('_pred'))
        except ValueError:
            stem = name
        if stem not in images:
            foreign.append(name)
        elif texts.setdefault(stem, name) != name:
            doubled.append((name, stem))
    return texts, foreign, doubled


def scoring_problems(
    folder: Path,
    texts: Mapping[str, str],
    sizes: Mapping[str, tuple[int, int]],
    unknown: str = 'error',
) -> Iterator[str]:
    """Yield what the official scoring code would stop at, or would count without a warning.

    More is allowed than in a submission: any finite score, empty and coloured masks, and with
    ``unknown='drop'`` label ids that are no class with instances. Texts (image -> file) lie below
    ``folder``; sizes are (h, w).
    """
    for stem, name in texts.items():
        yield from _text_problems(folder, name, sizes[stem], {}, unknown)


def _problems(
    root: Path | zipfile.Path, names: list[str], sizes: Mapping[str, tuple[int, int]]
) -> Iterator[str]:
    texts, foreign, doubled = texts_of_images((n for n in names if n.endswith('.txt')), sizes)
    yield from (f'{name} belongs to no image of the set' for name in foreign)
    for name, stem in doubled:
        yield f'{name}: the image has another text file, {texts[stem]}'
    for stem in sorted(set(sizes) - set(texts)):
        yield f'{stem} has no text file (an image without detections needs an empty one)'
    used: dict[str, str] = {}
    for stem, name in texts.items():
        yield from _text_problems(root, name, sizes[stem], used)


def _text_problems(
    root: Path | zipfile.Path,
    name: str,
    size: tuple[int, int],
    used: dict[str, str],
    unknown: str | None = None,
) -> Iterator[str]:
    """Problems of a text file: of a submission, or with ``unknown`` of what is only scored."""
    try:
        lines = (root / name).read_bytes().decode('utf-8').splitlines()
    except UnicodeDecodeError:
        yield f'{name} is no text'
        return
    for number, line in enumerate(lines, 1):
        label = f'{name}, line {number}'
        parts = line.split(' ')
        if len(parts) != 3:
            yield f'{label}: {line!r} must be "<png> <label id> <score>" with single spaces'
            continue
        png, identity, score = parts
        yield from _label_problems(label, identity, unknown)
        yield from _score_problems(label, score, unknown is not None)
        target = PurePosixPath(name).parent / png
        if target.is_absolute() or '..' in target.parts:
            yield f'{label}: {png} must lie below the text file'
        elif not (root / str(target)).is_file():
            yield f'{label}: {png} does not exist'
        elif str(target) in used:
            yield f'{label}: {png} is listed twice, first in {used[str(target)]}'
        else:
            used[str(target)] = label
            data = (root / str(target)).read_bytes()
            problem = _png_problem(data, size) if unknown is None else _header_problem(data, size)
            if problem:
                yield f'{label}: {png} {problem}'


def _label_problems(label: str, text: str, unknown: str | None) -> Iterator[str]:
    known = sorted(CITYSCAPES_IDS.values())
    if unknown is None:
        if text not in map(str, known):
            yield f'{label}: label id {text!r} is none of {known}'
        return
    value = _number(text)  # the official code takes 26.0 too
    if not value.is_integer():
        yield f'{label}: label id {text!r} is no whole number'
    elif value not in known and unknown == 'error':
        yield (
            f'{label}: label id {text!r} is none of {known}, the classes with instances (leave '
            "such predictions out with --unknown drop, unknown='drop')"
        )


def _score_problems(label: str, text: str, scored: bool) -> Iterator[str]:
    score = _number(text)
    if scored and not math.isfinite(score):
        yield f'{label}: score {text!r} is no finite number'
    elif not scored and not 0 < score <= 1:
        yield f'{label}: score {text!r} is not in (0, 1]'


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _png_problem(data: bytes, size: tuple[int, int]) -> str | None:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if image is None:
        return 'is no image'
    if image.ndim != 2:
        return f'has {image.shape[2]} channels, one is expected'
    if image.shape != tuple(size):
        return f'has the size {image.shape}, the image {tuple(size)}'
    return None if image.any() else 'is empty'


def _header_problem(data: bytes, size: tuple[int, int]) -> str | None:
    try:
        with Image.open(io.BytesIO(data)) as image:
            found = (image.height, image.width)
    except OSError:
        return 'is no image'
    return None if found == tuple(size) else f'has the size {found}, the image {tuple(size)}'
