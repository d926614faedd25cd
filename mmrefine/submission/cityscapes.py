"""Find what is wrong with Cityscapes predictions: text files and PNGs, plain or zipped."""

import io
import math
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Protocol

import cv2
import numpy as np
from PIL import Image

from mmrefine.results.ground_truth import GroundTruth, load_json
from mmrefine.results.image_files import image_file

from .formats import CITYSCAPES_IDS, cityscapes_stem

SIZE = (1024, 2048)  # of every Cityscapes image


class Tree(Protocol):
    """Files by their path below the root."""

    def names(self) -> set[str]:
        """All paths, with forward slashes."""

    def has(self, name: str) -> bool:
        """Whether there is such a file."""

    def read(self, name: str) -> bytes:
        """Contents of a file."""


class Folder:
    """A tree on disk."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> set[str]:
        """All paths, with forward slashes."""
        return {p.relative_to(self.root).as_posix() for p in self.root.rglob('*') if p.is_file()}

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return (self.root / name).is_file()

    def read(self, name: str) -> bytes:
        """Contents of a file."""
        return (self.root / name).read_bytes()


class Archive:
    """A zipped tree."""

    def __init__(self, path: Path) -> None:
        self.archive = zipfile.ZipFile(path)
        self.files = {n for n in self.archive.namelist() if not n.endswith('/')}

    def names(self) -> set[str]:
        """All paths, with forward slashes."""
        return self.files

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return name in self.files

    def read(self, name: str) -> bytes:
        """Contents of a file."""
        return self.archive.read(name)


def cityscapes_images(gt: str | Path) -> dict[str, tuple[int, int]]:
    """Images that need a text file: ``<city>_<sequence>_<frame>_leftImg8bit`` -> ``(h, w)``.

    Args:
        gt: Json with ``images``, or a folder with ``*_leftImg8bit.png`` or
            ``*_gtFine_instanceIds.png``.

    Raises:
        ValueError: There are none.
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


def check_cityscapes(path: str | Path, sizes: Mapping[str, tuple[int, int]]) -> list[str]:
    """Check a tree.

    Args:
        path: Folder or zip.
        sizes: What ``cityscapes_images`` returns.

    Returns:
        One sentence a problem; an empty list for a good tree.
    """
    path = Path(path)
    if not path.exists():
        return [f'{path} does not exist']
    if path.is_dir():
        return list(_problems(Folder(path), sizes))
    if not zipfile.is_zipfile(path):
        return [f'{path} is neither a folder nor a zip archive']
    return list(_problems(Archive(path), sizes))


def scoring_problems(
    folder: Path,
    texts: Mapping[str, Path],
    sizes: Mapping[str, tuple[int, int]],
    unknown: str = 'error',
) -> Iterator[str]:
    """Find what the official scoring code would stop at, or count without a word.

    More is allowed than in a submission: any finite score, empty and coloured masks.

    Args:
        folder: Root of the tree.
        texts: Image -> text file below ``folder``.
        sizes: Image -> ``(h, w)``.
        unknown: ``'drop'`` allows label ids that are no class with instances.

    Yields:
        One sentence a problem.
    """
    tree = Folder(folder)
    for stem, text in texts.items():
        name = text.relative_to(folder).as_posix()
        yield from _text_problems(tree, name, sizes[stem], {}, unknown)


def _problems(tree: Tree, sizes: Mapping[str, tuple[int, int]]) -> Iterator[str]:
    texts: dict[str, str] = {}
    for name in sorted(n for n in tree.names() if n.endswith('.txt')):
        try:
            stem = cityscapes_stem(PurePosixPath(name).stem.removesuffix('_pred'))
        except ValueError:
            stem = PurePosixPath(name).stem
        if stem not in sizes:
            yield f'{name} belongs to no image of the set'
        elif stem in texts:
            yield f'{name}: the image has another text file, {texts[stem]}'
        else:
            texts[stem] = name
    missing = sorted(set(sizes) - set(texts))
    for stem in missing:
        yield f'{stem} has no text file (an image without detections needs an empty one)'
    used: dict[str, str] = {}
    for stem, name in texts.items():
        yield from _text_problems(tree, name, sizes[stem], used)


def _text_problems(
    tree: Tree,
    name: str,
    size: tuple[int, int],
    used: dict[str, str],
    unknown: str | None = None,
) -> Iterator[str]:
    """Problems of a text file: of a submission, or with ``unknown`` of what is only scored."""
    try:
        lines = tree.read(name).decode('utf-8').splitlines()
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
        elif not tree.has(str(target)):
            yield f'{label}: {png} does not exist'
        elif str(target) in used:
            yield f'{label}: {png} is listed twice, first in {used[str(target)]}'
        else:
            used[str(target)] = label
            judge = _png_problems if unknown is None else _header_problems
            yield from judge(label, png, tree.read(str(target)), size)


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


def _png_problems(label: str, png: str, data: bytes, size: tuple[int, int]) -> Iterator[str]:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if image is None:
        yield f'{label}: {png} is no image'
    elif image.ndim != 2:
        yield f'{label}: {png} has {image.shape[2]} channels, one is expected'
    elif image.shape != tuple(size):
        yield f'{label}: {png} has the size {image.shape}, the image {tuple(size)}'
    elif not image.any():
        yield f'{label}: {png} is empty'


def _header_problems(label: str, png: str, data: bytes, size: tuple[int, int]) -> Iterator[str]:
    try:
        with Image.open(io.BytesIO(data)) as image:
            found = (image.height, image.width)
    except OSError:
        yield f'{label}: {png} is no image'
        return
    if found != tuple(size):
        yield f'{label}: {png} has the size {found}, the image {tuple(size)}'
