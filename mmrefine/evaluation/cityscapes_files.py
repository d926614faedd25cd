"""Cityscapes predictions and instance maps, image by image, from folders or COCO-style files."""

import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from mmrefine.masks.crops import crop_masks
from mmrefine.results.cityscapes import (
    cityscapes_labels,
    cityscapes_stem,
    scoring_problems,
    texts_of_images,
    write_cityscapes_tree,
)
from mmrefine.results.detections import load_results
from mmrefine.results.ground_truth import GroundTruth, Id
from mmrefine.results.image_files import image_file
from mmrefine.results.json_files import load_json
from mmrefine.results.log import log_warning

SHOWN = 5  # problems named in an error
ROAD = 7  # label id of a class that is scored, but has no instances


@contextmanager
def paired_files(gt: Path, results: Path, unknown: str) -> Iterator[list[tuple[Path, Path]]]:
    """Find, or make in a temporary folder, the files that the official code compares.

    Args:
        gt: Folder with ``*_gtFine_instanceIds.png``, or a json; images without a PNG beside the
            json are drawn from its annotations.
        results: Folder with ``*_pred.txt``, or a json list that refers to the images of ``gt``.
        unknown: ``'error'`` or ``'drop'``: results of unlisted images or categories.

    Yields:
        Text file of the predictions and instance map of every image.
    """
    if gt.is_dir() and not results.is_dir():
        raise ValueError(
            f'{results} refers to images by number: give --gt the json that numbers them, not the '
            f'folder {gt}'
        )
    with tempfile.TemporaryDirectory() as scratch:
        if gt.is_dir():
            maps = {
                cityscapes_stem(str(p)): p for p in sorted(gt.rglob('*_gtFine_instanceIds.png'))
            }
        else:
            data = load_json(gt)
            truth = GroundTruth.from_dict(data, name=str(gt))
            maps = _maps_of_json(data, truth, gt, Path(scratch) / 'gt')
        if not maps:
            raise ValueError(f'{gt} holds no *_gtFine_instanceIds.png')
        if not results.is_dir():
            dt = load_results(results, truth, unknown)
            dt.require(masks=True)
            names = {image['id']: image_file(image) for image in data['images']}
            results = Path(scratch) / 'results'
            write_cityscapes_tree(dt, truth, names, results)
        texts = _texts(results, maps, gt, unknown)
        yield [(results / texts[stem], path) for stem, path in maps.items()]


def _maps_of_json(data: Mapping, gt: GroundTruth, path: Path, scratch: Path) -> dict[str, Path]:
    found = {image['id']: truth_file(image, path) for image in data['images']}
    names = {image['id']: image_file(image) for image in data['images']}
    absent = {i: names[i] for i, file in found.items() if file is None}
    if absent:
        log_warning(
            f'{len(absent)} images have no *_gtFine_instanceIds.png beside {path}: they are drawn '
            'from the annotations, without areas to ignore'
        )
        found.update(paint_truth(gt, absent, scratch))
    return {cityscapes_stem(names[i]): file for i, file in found.items() if file is not None}


def truth_file(image: Mapping, annotation_file: Path) -> Path | None:
    """Find ``*_gtFine_instanceIds.png`` of an image of a Cityscapes json; None if it is not there.

    The entry has ``file_name`` and perhaps ``segm_file``; the PNGs lie in ``gtFine/<split>`` beside
    the folder of the json. A ValueError says that several splits have the image, and the name of
    the json matches none or several.
    """
    name = Path(image.get('segm_file') or image_file(image)).name
    for suffix in ('_leftImg8bit.png', '_gtFine_labelIds.png', '_gtFine_instanceIds.png'):
        name = name.removesuffix(suffix)
    city = name.split('_')[0]
    root = annotation_file.parent.parent / 'gtFine'
    found = sorted(root.glob(f'*/{city}/{name}_gtFine_instanceIds.png'))
    named = [path for path in found if path.parents[1].name in annotation_file.stem]
    if len(named or found) > 1:
        splits = ', '.join(path.parents[1].name for path in named or found)
        raise ValueError(
            f'{name} is in several splits of {root} ({splits}): give --gt the folder of one of '
            'them, or name the split in the name of the json'
        )
    return next(iter(named or found), None)


def paint_truth(gt: GroundTruth, file_names: Mapping[Id, str], folder: Path) -> dict[Id, Path]:
    """Write ``*_gtFine_instanceIds.png``: 1000 x label id + number, the bare label id for crowds.

    Of the images in ``file_names`` (id -> path of the image); later annotations cover earlier ones.
    Returns image id -> path.
    """
    gt.require(masks=True)
    labels = cityscapes_labels(gt)
    annotations: dict[Id, list[dict]] = defaultdict(list)
    for annotation in gt.annotations:
        annotations[annotation['image_id']].append(annotation)
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for image, file_name in file_names.items():
        h, w = gt.sizes[image]
        canvas = np.full((h, w), ROAD, np.uint16)
        number: Counter = Counter()
        crops = crop_masks([a['segmentation']['counts'] for a in annotations[image]], h)
        for annotation, crop in zip(annotations[image], crops):
            label = labels[annotation['category_id']]
            value = label if annotation['iscrowd'] else 1000 * label + number[label]
            number[label] += not annotation['iscrowd']
            inside = crop.pixels
            window = canvas[crop.y : crop.y + inside.shape[0], crop.x : crop.x + inside.shape[1]]
            window[inside] = value
        stem = cityscapes_stem(file_name).removesuffix('_leftImg8bit')
        paths[image] = folder / f'{stem}_gtFine_instanceIds.png'
        cv2.imwrite(str(paths[image]), canvas)
    return paths


def _texts(folder: Path, truths: Mapping[str, Path], gt: Path, unknown: str) -> dict[str, str]:
    """Text file below the folder of every image, checked."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob('*_pred.txt'))
    texts, foreign, doubled = texts_of_images(names, truths)
    for name, stem in doubled:
        raise ValueError(f'{stem} has two text files, {texts[stem]} and {name}: remove one')
    missing = sorted(set(truths) - set(texts))
    if missing:
        raise ValueError(
            f'{len(missing)} of {len(truths)} images have no *_pred.txt below {folder}, the first '
            f'is {missing[0]}; an image without detections needs an empty one'
        )
    if foreign and unknown == 'error':
        raise ValueError(
            f'{len(foreign)} *_pred.txt below {folder} belong to no image of {gt}, the first is '
            f'{foreign[0]}. If these results cover more than this ground truth, leave them '
            "out: --unknown drop (unknown='drop')"
        )
    if foreign:
        log_warning(f'{len(foreign)} *_pred.txt of unknown images were left out')
    sizes = {stem: _size(path) for stem, path in truths.items()}
    problems = list(scoring_problems(folder, texts, sizes, unknown))
    if problems:
        shown = '; '.join(problems[:SHOWN])
        raise ValueError(f'{folder} cannot be scored ({len(problems)} problems): {shown}')
    return texts


def _size(png: Path) -> tuple[int, int]:
    with Image.open(png) as image:
        return image.height, image.width
