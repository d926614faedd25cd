"""From annotations of any known tool to a COCO-format set, a look at it, and a config to train.

The pictures stay where they are unless they are copied on request.
"""

import json
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from os.path import commonpath
from pathlib import Path
from typing import Any

from pycocotools import mask as coco_mask

from mmrefine.datasets.annotation_check import Problem, check_annotations
from mmrefine.datasets.sources import Source, SourceImage, read_source, require_distinct
from mmrefine.datasets.sources.records import PICTURES, counted
from mmrefine.masks.run_lengths import to_counts
from mmrefine.results.files import atomic_file
from mmrefine.results.image_files import read_picture
from mmrefine.visualization.overlays import (
    contact_sheet,
    draw_instances,
    instance_colour,
    shrunk,
)
from mmrefine.visualization.picture_files import write_bgr

SHEET = 12  # pictures on the contact sheet
PANEL = 480  # pixels of the longer side of a picture on it


@dataclass
class PreparedData:
    """What ``prepare_data`` made."""

    kind: str  # format of the source
    folder: Path  # where everything lies; ``annotations`` and ``sheet.jpg`` are below it
    image_root: Path  # folder that file names are relative to
    classes: list[str]  # names, in the order of the labels
    counts: dict[str, tuple[int, int]]  # split -> (pictures, objects)
    class_counts: dict[str, int]  # class -> objects
    sizes: list[tuple[int, int]]  # width and height of every picture
    largest: int  # most objects on a picture
    notes: list[str]  # what was interpreted or left out
    problems: dict[str, list[Problem]]  # split -> what the annotation check says


def prepare_data(
    sources: Sequence[Path],
    out: Path,
    kind: str | None = None,
    val_share: float = 0.2,
    seed: int = 0,
    group_by: str | None = None,
    copy: bool = False,
) -> PreparedData:
    """Convert, split, check and draw a data set.

    Args:
        sources: Files or folders, see ``read_source``; several are put together.
        out: Folder for ``annotations/{train,val}.json`` and ``sheet.jpg``.
        kind: Format of the source; None recognises it.
        val_share: Part of the pictures (or groups) for validation, where the source has no split.
        seed: Of the split.
        group_by: Pictures whose names agree up to the first of this separator stay together.
        copy: Copy the pictures to ``OUT/images``; otherwise they are read where they lie.

    Raises:
        OSError: The source is missing or ``out`` cannot be written.
        ValueError: The source is faulty, or too small to be split, or would be written over.
    """
    kind, found = _read_all(sources, kind)
    if not any(image.objects for image in found.images):
        raise ValueError(f'{sources[0]} ({kind}) has {len(found.images)} pictures, but no object')
    splits, note = split_images(found.images, val_share, seed, group_by)
    if not any(image.objects for image in splits['train']):
        raise ValueError(f'{note}: none of the pictures to train on has an object')
    root = Path(commonpath([image.path.resolve().parent for image in found.images]))
    pictures = [image.path for image in found.images] if copy else []
    copies = {path: out / 'images' / path.resolve().relative_to(root) for path in pictures}
    files = {name: out / 'annotations' / f'{name}.json' for name in splits}
    _refuse_replacing([*copies.values(), *files.values(), out / 'sheet.jpg'], sources, found.images)
    contents = {name: coco_content(images, found.classes, root) for name, images in splits.items()}
    _draw_sheet(splits['train'], found.classes, out / 'sheet.jpg', seed)
    for path, target in copies.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    for name, content in contents.items():
        with atomic_file(files[name]) as file:
            json.dump(content, file)
    labels = [thing.label for image in found.images for thing in image.objects]
    return PreparedData(
        kind,
        out,
        (out / 'images').resolve() if copy else root,
        found.classes,
        {name: (len(c['images']), len(c['annotations'])) for name, c in contents.items()},
        {name: labels.count(name) for name in found.classes},
        [(image.width, image.height) for image in found.images],
        max(len(image.objects) for image in found.images),
        [*found.notes, note],
        {name: check_annotations(content) for name, content in contents.items()},
    )


def _refuse_replacing(
    targets: Sequence[Path], sources: Sequence[Path], images: Sequence[SourceImage]
) -> None:
    """Raise ValueError if a file to write is there already, as a picture or part of a source."""
    read = {path.resolve() for path in (*sources, *(image.path for image in images))}
    for target in targets:
        place = target.resolve()
        if target.exists() and not read.isdisjoint((place, *place.parents)):
            raise ValueError(
                f'{target} belongs to the source and would be written over: name another --out'
            )


def _read_all(sources: Sequence[Path], kind: str | None) -> tuple[str, Source]:
    parts = [read_source(source, kind) for source in sources]
    images = [image for _, part in parts for image in part.images]
    require_distinct(images, ' and '.join(map(str, sources)))
    classes = dict.fromkeys(name for _, part in parts for name in part.classes)
    notes = [note for _, part in parts for note in part.notes]
    listed = {image.path.resolve() for image in images}
    beside = {p for folder in {path.parent for path in listed} for p in folder.iterdir()}
    if left := sorted(p for p in beside - listed if p.suffix.lower() in PICTURES):
        text = 'pictures lie beside the annotated ones without annotations, and are left out'
        notes.append(counted(len(left), text, left))
    kinds = dict.fromkeys(kind for kind, _ in parts)
    return ', '.join(kinds), Source(images, list(classes), notes)


def split_images(
    images: Sequence[SourceImage], val_share: float, seed: int, group_by: str | None
) -> tuple[dict[str, list[SourceImage]], str]:
    """Divide pictures into ``train`` and ``val``, and ``test`` where the source has all three.

    The source's own split is kept, pictures without one train; ``test`` serves as ``val`` where
    there is no ``val``. The second result is a sentence on how the parts were made. A ValueError
    says that there is nothing to train on.
    """
    given: dict[str, list[SourceImage]] = {}
    for image in images:
        given.setdefault(image.split or 'train', []).append(image)
    if given.keys() == {'val', 'test'}:
        raise ValueError(
            'the source has pictures to validate and to test, but none to train on: add some, or '
            'name one of its two parts'
        )
    if len(given) > 1:
        notes = ["the source's own split is kept"]
        if 'val' not in given:
            given['val'] = given.pop('test')
            notes.append('its test pictures validate')
        if bare := [image.path.name for image in images if image.split is None]:
            notes.append(counted(len(bare), 'pictures without a split train', bare))
        order = [name for name in ('train', 'val', 'test') if name in given]
        return {name: given[name] for name in order}, '; '.join(notes)
    groups: dict[str, list[SourceImage]] = {}
    for image in sorted(images, key=lambda image: str(image.path)):
        stem = image.path.stem
        groups.setdefault(stem.split(group_by)[0] if group_by else str(image.path), []).append(
            image
        )
    if len(groups) < 2:
        what = f'one group of the separator {group_by!r}' if group_by else f'{len(images)} picture'
        raise ValueError(
            f'the source has {what}: at least two are needed, to train and to validate'
        )
    names = list(groups)
    random.Random(seed).shuffle(names)
    number = min(max(round(val_share * len(names)), 1), len(names) - 1)
    val = [image for name in names[:number] for image in groups[name]]
    train = [image for name in names[number:] for image in groups[name]]
    of = f'{number} of {len(names)} groups' if group_by else f'{number} of {len(names)} pictures'
    return {'train': train, 'val': val}, f'{of} validate, drawn with seed {seed}'


def coco_content(images: Sequence[SourceImage], classes: Sequence[str], root: Path) -> dict:
    """COCO-format annotations of pictures; file names are relative to ``root``."""
    numbers = {name: i + 1 for i, name in enumerate(classes)}
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image in images:
        entry = {'id': len(entries) + 1, 'width': image.width, 'height': image.height}
        entries.append({**entry, 'file_name': image.path.resolve().relative_to(root).as_posix()})
        for i, thing in enumerate(image.objects):
            try:
                counts = to_counts(thing.segmentation, (image.height, image.width))
            except ValueError as error:
                raise ValueError(f'{image.path}, object {i} ({thing.label}): {error}') from None
            rle = {'size': [image.height, image.width], 'counts': counts}
            annotations.append(
                {
                    'id': len(annotations) + 1,
                    'image_id': entry['id'],
                    'category_id': numbers[thing.label],
                    'bbox': coco_mask.toBbox(rle).tolist(),
                    'area': int(coco_mask.area(rle)),
                    'iscrowd': int(thing.crowd),
                    'segmentation': thing.segmentation,
                    **({'ignore': 1} if thing.ignore else {}),
                }
            )
    categories = [{'id': number, 'name': name} for name, number in numbers.items()]
    return {'images': entries, 'annotations': annotations, 'categories': categories}


def _draw_sheet(
    images: Sequence[SourceImage], classes: Sequence[str], path: Path, seed: int
) -> None:
    """Draw some pictures with their masks, one colour a class."""
    shown = [image for image in images if image.objects]
    shown = random.Random(seed).sample(shown, min(SHEET, len(shown)))
    panels = []
    for image in shown:
        size = (image.height, image.width)
        rles = [
            {'size': size, 'counts': to_counts(thing.segmentation, size)} for thing in image.objects
        ]
        labels = [thing.label for thing in image.objects]
        colours = [instance_colour(classes.index(label))[::-1] for label in labels]
        drawn = draw_instances(read_picture(image.path), rles, labels, colours)
        panels.append(shrunk(drawn, PANEL))
    write_bgr(path, contact_sheet(panels, columns=4))
